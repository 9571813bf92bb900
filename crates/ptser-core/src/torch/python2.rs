//! The names that Python 2 gave to what Python 3 has elsewhere (CPython's `_compat_pickle`).

/// Maps a global to Python 3's name; most map to themselves.
pub(crate) fn rename(module: &str, name: &str) -> (String, String) {
    let (module, name) = by_name(module, name).unwrap_or_else(|| (by_module(module), name));
    (module.to_owned(), name.to_owned())
}

fn by_name<'n>(module: &str, name: &'n str) -> Option<(&'static str, &'n str)> {
    Some(match (module, name) {
        ("__builtin__", "xrange") => ("builtins", "range"),
        ("__builtin__", "reduce") => ("functools", "reduce"),
        ("__builtin__", "intern") => ("sys", "intern"),
        ("__builtin__", "unichr") => ("builtins", "chr"),
        ("__builtin__", "unicode" | "basestring") => ("builtins", "str"),
        ("__builtin__", "long") => ("builtins", "int"),
        ("exceptions", "StandardError") => ("builtins", "Exception"),
        ("exceptions", name) => ("builtins", name),
        ("itertools", "izip") => ("builtins", "zip"),
        ("itertools", "imap") => ("builtins", "map"),
        ("itertools", "ifilter") => ("builtins", "filter"),
        ("itertools", "ifilterfalse") => ("itertools", "filterfalse"),
        ("itertools", "izip_longest") => ("itertools", "zip_longest"),
        ("UserDict", "IterableUserDict") => ("collections", "UserDict"),
        ("whichdb", "whichdb") => ("dbm", "whichdb"),
        ("_socket", "fromfd") => ("socket", "fromfd"),
        ("_multiprocessing", "Connection") => ("multiprocessing.connection", "Connection"),
        ("multiprocessing.process", "Process") => ("multiprocessing.context", "Process"),
        ("multiprocessing.forking", "Popen") => ("multiprocessing.popen_fork", "Popen"),
        ("multiprocessing", "AuthenticationError" | "BufferTooShort" | "ProcessError" | "TimeoutError") => {
            ("multiprocessing.context", name)
        }
        ("socket", "_socketobject") => ("socket", "SocketType"),
        ("urllib", "ContentTooShortError") => ("urllib.error", name),
        (
            "urllib",
            "getproxies" | "pathname2url" | "url2pathname" | "urlcleanup" | "urlopen" | "urlretrieve",
        ) => ("urllib.request", name),
        ("urllib", "quote" | "quote_plus" | "unquote" | "unquote_plus" | "urlencode") => {
            ("urllib.parse", name)
        }
        ("urllib2", "HTTPError" | "URLError") => ("urllib.error", name),
        _ => return None,
    })
}

fn by_module(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        "cPickle" => "pickle",
        "cStringIO" | "StringIO" => "io",
        "UserDict" | "UserList" | "UserString" => "collections",
        "_abcoll" => "collections.abc",
        "Queue" => "queue",
        "SocketServer" => "socketserver",
        "ConfigParser" => "configparser",
        "repr" => "reprlib",
        "tkFileDialog" | "FileDialog" => "tkinter.filedialog",
        "tkSimpleDialog" | "SimpleDialog" => "tkinter.simpledialog",
        "tkColorChooser" => "tkinter.colorchooser",
        "tkCommonDialog" => "tkinter.commondialog",
        "Dialog" => "tkinter.dialog",
        "Tkdnd" => "tkinter.dnd",
        "tkFont" => "tkinter.font",
        "tkMessageBox" => "tkinter.messagebox",
        "ScrolledText" => "tkinter.scrolledtext",
        "Tkconstants" => "tkinter.constants",
        "Tix" => "tkinter.tix",
        "ttk" => "tkinter.ttk",
        "Tkinter" => "tkinter",
        "markupbase" => "_markupbase",
        "_winreg" => "winreg",
        "thread" => "_thread",
        "dummy_thread" => "_dummy_thread",
        "dbhash" => "dbm.bsd",
        "dumbdbm" => "dbm.dumb",
        "dbm" => "dbm.ndbm",
        "gdbm" => "dbm.gnu",
        "anydbm" | "whichdb" => "dbm",
        "xmlrpclib" => "xmlrpc.client",
        "SimpleXMLRPCServer" | "DocXMLRPCServer" => "xmlrpc.server",
        "httplib" => "http.client",
        "htmlentitydefs" => "html.entities",
        "HTMLParser" => "html.parser",
        "Cookie" => "http.cookies",
        "cookielib" => "http.cookiejar",
        "BaseHTTPServer" | "CGIHTTPServer" | "SimpleHTTPServer" => "http.server",
        "test.test_support" => "test.support",
        "commands" => "subprocess",
        "urlparse" => "urllib.parse",
        "robotparser" => "urllib.robotparser",
        "urllib2" => "urllib.request",
        "_elementtree" => "xml.etree.ElementTree",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_2_names_reach_the_modules_that_the_policy_blocks() {
        assert_eq!(rename("__builtin__", "set"), ("builtins".into(), "set".into()));
        assert_eq!(rename("__builtin__", "intern"), ("sys".into(), "intern".into()));
        assert_eq!(rename("exceptions", "KeyError"), ("builtins".into(), "KeyError".into()));
        assert_eq!(rename("torch", "FloatStorage"), ("torch".into(), "FloatStorage".into()));
    }
}
