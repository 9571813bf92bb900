//! Pickles as sequences of opcodes, each well formed: what they do to the stack, the memo and each other is arbitrary.

use arbitrary::Arbitrary;

use crate::build::{call, int, ints, storage, tensor, text};

/// A pickle to be.
#[derive(Debug, Arbitrary)]
pub struct Program {
    protocol: u8,
    steps: Vec<Step>,
    /// Whether the stream ends where it should.
    cut: bool,
}

/// Text: words that mean something to some part of the dialect, or any.
#[derive(Debug, Arbitrary)]
enum Text {
    Known(u8),
    Any(String),
}

#[derive(Debug, Arbitrary)]
enum Name {
    Allowed(u8),
    Other(u8),
    Any(Text, Text),
}

/// Something that is one value when it stands in a call.
#[derive(Debug, Arbitrary)]
enum Leaf {
    None,
    Bool(bool),
    Int(i64),
    Small(u8),
    Float(f64),
    Text(Text),
    Bytes(Vec<u8>),
    Ints(Vec<i8>),
    Global(Name),
    Storage(u8, u8),
    Tensor(View),
    Dict(Text, u8),
    EmptyDict,
    Memo(u8),
}

/// A tensor on one of the storages around the pickle.
#[derive(Debug, Arbitrary)]
struct View {
    key: u8,
    numel: u8,
    offset: i8,
    shape: Vec<i8>,
    stride: Vec<i8>,
}

/// One opcode, or a few that belong together.
#[derive(Debug, Arbitrary)]
enum Step {
    Op(u8),
    Raw(u8),
    Leaf(Leaf),
    Frame(u64),
    Line(u8, Text),
    Long(Vec<u8>),
    LongBytes(u8, Vec<u8>),
    Put(u8),
    Get(u8),
    LongPut(u32),
    Inst(Name),
    StackGlobal(Name),
    Call(Name, Vec<Leaf>),
    New(Name, Vec<Leaf>),
    Object(Name, Vec<Leaf>, Vec<Leaf>),
    List(Vec<Leaf>),
    DictOf(Vec<(Leaf, Leaf)>),
    Set(Vec<Leaf>),
    Parameter(View),
    Sparse(View, View, Vec<i8>),
    Quantized(View, f64, i64),
    Array(u8, Vec<i8>, Vec<u8>),
}

/// Opcodes without an argument.
const OPS: &[u8] = b"(.012NQR)]}abdelostu\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94";

const WORDS: [&str; 32] = [
    "",
    "0",
    "1",
    "2",
    "3",
    "storage",
    "module",
    "cpu",
    "cuda:0",
    "meta",
    "state_dict",
    "weight",
    "_metadata",
    "latin1",
    "utf-8",
    "little",
    "f4",
    "<f8",
    "O",
    "b",
    "=",
    "|",
    "cuda",
    "torch",
    "__main__",
    "_parameters",
    "_buffers",
    "_modules",
    "dim",
    "(lp0",
    "'x'",
    "1.5",
];

const OTHERS: [&str; 24] = [
    "os.system",
    "builtins.eval",
    "builtins.getattr",
    "builtins.object",
    "__builtin__.set",
    "builtins.print",
    "torch.jit._pickle.restore_type_tag",
    "torch.jit._pickle.build_intlist",
    "torch.storage._load_from_bytes",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy._core.numeric._frombuffer",
    "datetime.datetime",
    "datetime.date",
    "datetime.timedelta",
    "datetime.timezone",
    "pathlib.PosixPath",
    "pathlib._local.WindowsPath",
    "collections.deque",
    "torch._utils._rebuild_nested_tensor",
    "copyreg._reconstructor",
    "argparse.Namespace",
];

/// What PyTorch allows.
fn allowed(place: u8) -> &'static str {
    static NAMES: &str = include_str!("../../../../tests/fixtures/weights_only_globals.txt");
    let count = NAMES.lines().count();
    NAMES.lines().nth(usize::from(place) % count).unwrap_or_default()
}

fn pick<'w>(words: &[&'w str], place: u8) -> &'w str {
    words[usize::from(place) % words.len()]
}

impl Text {
    fn text(&self) -> &str {
        match self {
            Self::Known(place) => pick(&WORDS, *place),
            Self::Any(text) => text,
        }
    }
}

impl Name {
    fn parts(&self) -> (String, String) {
        let full = match self {
            Self::Allowed(place) => allowed(*place),
            Self::Other(place) => pick(&OTHERS, *place),
            Self::Any(module, name) => return (module.text().to_owned(), name.text().to_owned()),
        };
        let (module, name) = full.rsplit_once('.').unwrap_or(("", full));
        (module.to_owned(), name.to_owned())
    }

    fn global(&self) -> Vec<u8> {
        let (module, name) = self.parts();
        format!("c{module}\n{name}\n").into_bytes()
    }
}

impl View {
    /// A tensor as PyTorch saves one, where the numbers fit; negative ones are left as they are now and then.
    fn opcodes(&self) -> Vec<u8> {
        tensor(&self.storage(), self.offset.into(), &wide(&self.shape, 6), &wide(&self.stride, 6))
    }

    fn storage(&self) -> Vec<u8> {
        stored(self.key, self.numel)
    }
}

/// One of the storages around the pickle, mostly with its true size; their classes are of one and of four bytes.
fn stored(key: u8, numel: u8) -> Vec<u8> {
    let sizes = [6, 16, 1, 0];
    let place = usize::from(key) % sizes.len();
    let claimed = if numel < 200 { sizes[place] } else { i64::from(numel) - 200 };
    let key = ["0", "1", "2", "3"][place];
    match (place, key) {
        (2, key) => {
            let pid =
                [text("storage"), b"ctorch\nByteStorage\n".to_vec(), text(key), text("cpu"), int(claimed)];
            [b"(".as_slice(), &pid.concat(), b"tQ"].concat()
        }
        (_, key) => storage(key, claimed),
    }
}

impl Leaf {
    fn opcodes(&self) -> Vec<u8> {
        match self {
            Self::None => b"N".to_vec(),
            Self::Bool(bool) => vec![0x89 - u8::from(*bool)],
            Self::Int(number) => int(*number),
            Self::Small(number) => vec![b'K', *number],
            Self::Float(number) => [b"G".as_slice(), &number.to_be_bytes()].concat(),
            Self::Text(word) => text(word.text()),
            Self::Bytes(bytes) => sized(b"B", bytes),
            Self::Ints(numbers) => ints(&wide(numbers, usize::MAX)),
            Self::Global(name) => name.global(),
            Self::Storage(key, numel) => stored(*key, *numel),
            Self::Tensor(view) => view.opcodes(),
            Self::Dict(key, value) => [b"}".as_slice(), &text(key.text()), &[b'K', *value, b's']].concat(),
            Self::EmptyDict => b"}".to_vec(),
            Self::Memo(key) => vec![b'h', key % 16],
        }
    }
}

/// So many of the numbers at most.
fn wide(numbers: &[i8], most: usize) -> Vec<i64> {
    numbers.iter().take(most).map(|&number| number.into()).collect()
}

fn sized(op: &[u8], bytes: &[u8]) -> Vec<u8> {
    [op, &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn all(leaves: &[Leaf]) -> Vec<u8> {
    leaves.iter().flat_map(Leaf::opcodes).collect()
}

impl Step {
    fn opcodes(&self) -> Vec<u8> {
        match self {
            Self::Op(place) => vec![OPS[usize::from(*place) % OPS.len()]],
            Self::Raw(byte) => vec![*byte],
            Self::Leaf(leaf) => leaf.opcodes(),
            Self::Frame(len) => [b"\x95".as_slice(), &len.to_le_bytes()].concat(),
            Self::Line(op, word) => {
                let ops = b"FILSVPgp";
                [&ops[usize::from(*op) % ops.len()..][..1], word.text().as_bytes(), b"\n"].concat()
            }
            Self::Long(bytes) => {
                let bytes = &bytes[..bytes.len().min(255)];
                [&[0x8a, bytes.len() as u8], bytes].concat()
            }
            Self::LongBytes(op, bytes) => match op % 4 {
                0 => sized(b"X", bytes),
                1 => sized(b"T", bytes),
                2 => [b"\x96".as_slice(), &(bytes.len() as u64).to_le_bytes(), bytes].concat(),
                _ => [b"\x8d".as_slice(), &(bytes.len() as u64).to_le_bytes(), bytes].concat(),
            },
            Self::Put(key) => vec![b'q', key % 16],
            Self::Get(key) => vec![b'h', key % 16],
            Self::LongPut(key) => [b"r".as_slice(), &key.to_le_bytes()].concat(),
            Self::Inst(name) => [b"i".as_slice(), &name.global()[1..]].concat(),
            Self::StackGlobal(name) => {
                let (module, name) = name.parts();
                [text(&module), text(&name), b"\x93".to_vec()].concat()
            }
            Self::Call(name, args) => [&name.global()[..], b"(", &all(args), b"tR"].concat(),
            Self::New(name, args) => [&name.global()[..], b"(", &all(args), b"t\x81"].concat(),
            Self::Object(name, args, state) => {
                [&name.global()[..], b"(", &all(args), b"tR(", &all(state), b"tb"].concat()
            }
            Self::List(items) => [b"](".as_slice(), &all(items), b"e"].concat(),
            Self::DictOf(entries) => {
                let entries =
                    entries.iter().flat_map(|(key, value)| [key.opcodes(), value.opcodes()].concat());
                [b"}(".as_slice(), &entries.collect::<Vec<_>>(), b"u"].concat()
            }
            Self::Set(items) => [b"\x8f(".as_slice(), &all(items), b"\x90"].concat(),
            Self::Parameter(view) => {
                let args = [view.opcodes(), b"\x88".to_vec(), b"ccollections\nOrderedDict\n)R".to_vec()];
                call("torch._utils._rebuild_parameter", &[&args.concat()])
            }
            Self::Sparse(indices, values, size) => {
                let size = ints(&wide(size, 5));
                let layout = call("torch.serialization._get_layout", &[&text("torch.sparse_coo")]);
                let parts = [b"(", &indices.opcodes()[..], &values.opcodes(), &size, b"\x88t"].concat();
                call("torch._utils._rebuild_sparse_tensor", &[&layout, &parts])
            }
            Self::Quantized(view, scale, zero_point) => {
                let scale = [b"G".as_slice(), &scale.to_be_bytes()].concat();
                let scheme = [b"(ctorch\nper_tensor_affine\n", &scale[..], &int(*zero_point), b"t"].concat();
                let shape = [ints(&wide(&view.shape, 6)), ints(&wide(&view.stride, 6))].concat();
                let hooks = b"\x89ccollections\nOrderedDict\n)R";
                let args = [&view.storage()[..], &int(view.offset.into()), &shape, &scheme, hooks];
                call("torch._utils._rebuild_qtensor", &args)
            }
            Self::Array(kind, shape, bytes) => {
                let kind = ["f4", "i8", "b1", "O8", "c16", "U4", "M8", "V3"][usize::from(*kind % 8)];
                let dtype = call("numpy.dtype", &[&text(kind), b"\x89\x88"]);
                let order =
                    [b"(K\x03", &text("<")[..], b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"].concat();
                let base = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR";
                let shape = ints(&wide(shape, 5));
                [base, &b"(K\x01"[..], &shape, &dtype, &order, b"\x89", &sized(b"B", bytes), b"tb"].concat()
            }
        }
    }
}

impl Program {
    /// Its bytes.
    pub fn pickle(&self) -> Vec<u8> {
        let mut pickle = vec![0x80, 2 + self.protocol % 4];
        pickle.extend(self.steps.iter().flat_map(Step::opcodes));
        pickle.extend((!self.cut).then_some(b'.'));
        pickle
    }
}
