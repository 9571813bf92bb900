//! The names that Python 2 gave to what Python 3 has elsewhere, for pickles that it could read: CPython's
//! `_compat_pickle`, the other way round.

/// Maps a global to Python 2's name, as CPython's pickler does up to protocol 2; most map to themselves.
pub(crate) fn unrename(module: &str, name: &str) -> (String, String) {
    let (module, name) = back_by_name(module, name).unwrap_or_else(|| (back_by_module(module), name));
    (module.to_owned(), name.to_owned())
}

fn back_by_name<'n>(module: &str, name: &'n str) -> Option<(&'static str, &'n str)> {
    Some(match (module, name) {
        ("builtins", "range") => ("__builtin__", "xrange"),
        ("functools" | "_functools", "reduce") => ("__builtin__", "reduce"),
        ("sys", "intern") => ("__builtin__", "intern"),
        ("builtins", "chr") => ("__builtin__", "unichr"),
        ("builtins", "str") => ("__builtin__", "unicode"),
        ("builtins", "int") => ("__builtin__", "long"),
        ("builtins", "zip") => ("itertools", "izip"),
        ("builtins", "map") => ("itertools", "imap"),
        ("builtins", "filter") => ("itertools", "ifilter"),
        ("itertools", "filterfalse") => ("itertools", "ifilterfalse"),
        ("itertools", "zip_longest") => ("itertools", "izip_longest"),
        ("collections", "UserDict") => ("UserDict", "IterableUserDict"),
        ("collections", "UserList") => ("UserList", name),
        ("collections", "UserString") => ("UserString", name),
        ("dbm", "whichdb") => ("whichdb", name),
        ("socket", "fromfd") => ("_socket", name),
        ("_socket", "socket") => ("socket", "_socketobject"),
        ("multiprocessing.connection", "Connection") => ("_multiprocessing", name),
        ("multiprocessing.context", "Process") => ("multiprocessing.process", name),
        ("multiprocessing.popen_fork", "Popen") => ("multiprocessing.forking", name),
        (
            "multiprocessing.context",
            "AuthenticationError" | "BufferTooShort" | "ProcessError" | "TimeoutError",
        ) => ("multiprocessing", name),
        ("urllib.error", "ContentTooShortError") => ("urllib", name),
        ("urllib.error", "HTTPError" | "URLError") => ("urllib2", name),
        (
            "urllib.request",
            "getproxies" | "pathname2url" | "url2pathname" | "urlcleanup" | "urlopen" | "urlretrieve",
        )
        | ("urllib.parse", "quote" | "quote_plus" | "unquote" | "unquote_plus" | "urlencode") => {
            ("urllib", name)
        }
        ("tkinter.filedialog", "FileDialog" | "LoadFileDialog" | "SaveFileDialog") => ("FileDialog", name),
        ("tkinter.simpledialog", "SimpleDialog") => ("SimpleDialog", name),
        (
            "xmlrpc.server",
            "ServerHTMLDoc"
            | "XMLRPCDocGenerator"
            | "DocXMLRPCRequestHandler"
            | "DocXMLRPCServer"
            | "DocCGIXMLRPCRequestHandler",
        ) => ("DocXMLRPCServer", name),
        ("http.server", "SimpleHTTPRequestHandler") => ("SimpleHTTPServer", name),
        ("http.server", "CGIHTTPRequestHandler") => ("CGIHTTPServer", name),
        ("builtins", "ModuleNotFoundError") => ("exceptions", "ImportError"),
        (
            "builtins",
            "BrokenPipeError"
            | "ChildProcessError"
            | "ConnectionAbortedError"
            | "ConnectionError"
            | "ConnectionRefusedError"
            | "ConnectionResetError"
            | "FileExistsError"
            | "FileNotFoundError"
            | "InterruptedError"
            | "IsADirectoryError"
            | "NotADirectoryError"
            | "PermissionError"
            | "ProcessLookupError"
            | "TimeoutError",
        ) => ("exceptions", "OSError"),
        ("builtins", name) if is_python2_exception(name) => ("exceptions", name),
        _ => return None,
    })
}

/// What Python 2 kept in its module `exceptions`.
fn is_python2_exception(name: &str) -> bool {
    matches!(
        name,
        "ArithmeticError"
            | "AssertionError"
            | "AttributeError"
            | "BaseException"
            | "BufferError"
            | "BytesWarning"
            | "DeprecationWarning"
            | "EOFError"
            | "EnvironmentError"
            | "Exception"
            | "FloatingPointError"
            | "FutureWarning"
            | "GeneratorExit"
            | "IOError"
            | "ImportError"
            | "ImportWarning"
            | "IndentationError"
            | "IndexError"
            | "KeyError"
            | "KeyboardInterrupt"
            | "LookupError"
            | "MemoryError"
            | "NameError"
            | "NotImplementedError"
            | "OSError"
            | "OverflowError"
            | "PendingDeprecationWarning"
            | "ReferenceError"
            | "RuntimeError"
            | "RuntimeWarning"
            | "StopIteration"
            | "SyntaxError"
            | "SyntaxWarning"
            | "SystemError"
            | "SystemExit"
            | "TabError"
            | "TypeError"
            | "UnboundLocalError"
            | "UnicodeDecodeError"
            | "UnicodeEncodeError"
            | "UnicodeError"
            | "UnicodeTranslateError"
            | "UnicodeWarning"
            | "UserWarning"
            | "ValueError"
            | "Warning"
            | "ZeroDivisionError"
    )
}

fn back_by_module(module: &str) -> &str {
    match module {
        "builtins" => "__builtin__",
        "copyreg" => "copy_reg",
        "queue" => "Queue",
        "socketserver" => "SocketServer",
        "configparser" => "ConfigParser",
        "reprlib" => "repr",
        "tkinter.filedialog" => "tkFileDialog",
        "tkinter.simpledialog" => "tkSimpleDialog",
        "tkinter.colorchooser" => "tkColorChooser",
        "tkinter.commondialog" => "tkCommonDialog",
        "tkinter.dialog" => "Dialog",
        "tkinter.dnd" => "Tkdnd",
        "tkinter.font" => "tkFont",
        "tkinter.messagebox" => "tkMessageBox",
        "tkinter.scrolledtext" => "ScrolledText",
        "tkinter.constants" => "Tkconstants",
        "tkinter.tix" => "Tix",
        "tkinter.ttk" => "ttk",
        "tkinter" => "Tkinter",
        "_markupbase" => "markupbase",
        "winreg" => "_winreg",
        "_thread" => "thread",
        "_dummy_thread" => "dummy_thread",
        "dbm.bsd" => "dbhash",
        "dbm.dumb" => "dumbdbm",
        "dbm.ndbm" | "_dbm" => "dbm",
        "dbm.gnu" | "_gdbm" => "gdbm",
        "dbm" => "anydbm",
        "xmlrpc.client" => "xmlrpclib",
        "xmlrpc.server" => "SimpleXMLRPCServer",
        "http.client" => "httplib",
        "html.entities" => "htmlentitydefs",
        "html.parser" => "HTMLParser",
        "http.cookies" => "Cookie",
        "http.cookiejar" => "cookielib",
        "http.server" => "BaseHTTPServer",
        "test.support" => "test.test_support",
        "subprocess" => "commands",
        "urllib.parse" => "urlparse",
        "urllib.robotparser" => "robotparser",
        "urllib.request" => "urllib2",
        "collections.abc" => "_abcoll",
        "_bz2" => "bz2",
        "_functools" => "functools",
        "_pickle" => "pickle",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rename;
    use super::unrename;

    #[test]
    fn what_goes_to_python_2_comes_back() {
        for (module, name) in [
            ("builtins", "set"),
            ("builtins", "range"),
            ("builtins", "KeyError"),
            ("copyreg", "_reconstructor"),
            ("urllib.parse", "quote"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("collections", "OrderedDict"),
            ("functools", "partial"),
        ] {
            let (old_module, old_name) = unrename(module, name);
            assert_eq!(rename(&old_module, &old_name), (module.into(), name.into()));
        }
        assert_eq!(unrename("builtins", "int"), ("__builtin__".into(), "long".into()));
        assert_eq!(unrename("builtins", "TimeoutError"), ("exceptions".into(), "OSError".into()));
    }
}
