//! Values nested without end, shared without end, or inside themselves: opened, listed, shown and dropped
//! without recursion, in time.

use ptser::{Checkpoint, ErrorKind, Globals, Limits, LoadOptions};

use crate::build::{around, call, dict_of, good_pickle, int, ints, pickle, storage, tensor, text};
use crate::swift::{SLOW, swift};

const DEPTH: usize = 100_000;

fn open(pickle: &[u8]) -> Checkpoint {
    try_open(pickle).unwrap()
}

fn try_open(pickle: &[u8]) -> ptser::Result<Checkpoint> {
    let file = around(pickle);
    swift(SLOW, "opening", || LoadOptions::new().globals(Globals::inert()).from_bytes(file.clone()))
}

/// Opens, lists, shows and drops; with a tensor at the bottom, which has to be found.
fn survive(what: &str, before: &[u8], after: &[u8]) {
    let weight = tensor(&storage("0", 6), 0, &[6], &[1]);
    let pickle = pickle(&[&before.repeat(DEPTH), &weight, &after.repeat(DEPTH)]);
    swift(SLOW, what, || {
        let checkpoint = open(&pickle);
        assert_eq!(checkpoint.tensors().count(), 1, "{what}");
        let entry = checkpoint.entries().next().unwrap();
        assert_eq!(entry.path().len(), DEPTH, "{what}");
        assert!(format!("{} {:?}", checkpoint.root(), checkpoint.root()).len() < 10_000, "{what}");
        assert_eq!(entry.tensor().unwrap().to_contiguous().unwrap().len(), 24, "{what}");
    });
}

#[test]
fn containers_nest_a_hundred_thousand_deep() {
    survive("lists", b"]", b"a");
    survive("tuples", b"", b"\x85");
    survive("dicts", b"}K\x07", b"s");
    survive("sets", b"(", b"\x91");
    survive("ordered dicts", b"ccollections\nOrderedDict\n)RK\x07", b"s");
    survive("arguments of calls", b"ca\nb\n", b"\x85R");
    survive("states of objects", b"ca\nb\n)\x81", b"b");
}

#[test]
fn marks_and_deep_keys_are_no_trouble() {
    assert!(try_open(&pickle(&[&b"(".repeat(1_000_000)])).is_err());
    // A tuple of tuples as a key.
    let key = [b")".as_slice(), &b"\x85".repeat(DEPTH)].concat();
    let checkpoint = open(&pickle(&[b"}", &key, b"K\x01s"]));
    assert_eq!(checkpoint.root().len(), 1);
}

#[test]
fn an_error_at_the_bottom_names_the_end_of_its_path() {
    let bad = tensor(&storage("0", 6), 0, &[7], &[1]);
    let error = try_open(&pickle(&[&b"]".repeat(DEPTH), &bad, &b"a".repeat(DEPTH)])).unwrap_err();
    assert!(
        error.tensor().is_some_and(|name| name.len() < 1000 && name.ends_with(".0")),
        "{:?}",
        error.tensor()
    );
}

#[test]
fn values_inside_themselves_are_listed_once() {
    let weight = tensor(&storage("0", 6), 0, &[6], &[1]);
    // A list that holds a tensor, itself, and a dict that holds the list.
    let root = [b"]q\x01(", weight.as_slice(), b"h\x01}", &text("up"), b"h\x01se"].concat();
    let checkpoint = open(&pickle(&[&root]));
    assert_eq!(checkpoint.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["0"]);
    assert!(checkpoint.root().index(1).unwrap().is(checkpoint.root()));
    assert!(checkpoint.root().to_string().len() < 10_000);
}

/// Ten lists, each of ten times the one before: ten thousand million leaves.
#[test]
fn sharing_costs_nothing() {
    let mut root = b"](".to_vec();
    root.extend(tensor(&storage("0", 6), 0, &[6], &[1]));
    root.extend(b"eq\x00");
    for level in 1..41 {
        root.extend(b"](");
        root.extend([b'h', level - 1].repeat(10));
        root.extend([b'e', b'q', level]);
    }
    let checkpoint = open(&pickle(&[&root]));
    assert!(checkpoint.tensors().count() > 0);
    assert!(checkpoint.root().to_string().len() < 10_000);
}

/// What is shared can be asked to be copied or looked over again and again.
#[test]
fn small_files_cannot_ask_for_work_without_end() {
    let long = text(&"x".repeat(500_000));
    let members = b"K\x01".repeat(100_000);
    let many = |first: &[u8], each: &[u8]| pickle(&[b"(", first, b"q\x00", &each.repeat(50_000), b"t"]);
    let shared_list = [b"](".as_slice(), &members, b"e"].concat();
    let shared_tuple = [b"(".as_slice(), &members, b"t"].concat();
    let pairs: Vec<u8> =
        (0..50_000_u32).flat_map(|key| [b"J".as_slice(), &key.to_le_bytes(), b"N"].concat()).collect();
    let shared_dict = [b"}(".as_slice(), &pairs, b"u"].concat();
    for (what, pickle) in [
        ("bytes from one text", many(&long, b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R")),
        ("sets of one list", many(&shared_list, b"cbuiltins\nset\nh\x00\x85R")),
        ("sizes of one tuple", many(&shared_tuple, b"ctorch\nSize\nh\x00\x85R")),
        ("counters of one dict", many(&shared_dict, b"ccollections\nCounter\nh\x00\x85R")),
        ("objects of one state", many(&shared_dict, b"ca\nb\n)\x81h\x00b")),
        ("objects of one tuple of arguments", many(&shared_tuple, b"ca\nb\nh\x00R")),
        ("dicts of one key", many(&long, b"}h\x00Ns")),
        ("dicts of two keys", many(&long, b"}(h\x00NNNu")),
        ("devices of one name", many(&long, b"ctorch\ndevice\nh\x00\x85R")),
        (
            "storages of one long key",
            many(&long, b"(X\x07\0\0\0storagectorch\nFloatStorage\nh\x00X\x03\0\0\0cpuK\x01tQ"),
        ),
        ("paths of one part", many(&long, b"cpathlib\nPosixPath\nh\x00\x85R")),
        ("arrays of one text", many(&shared_array(&long), b"h\x03h\x04Rh\x02b")),
        ("nested tensors of one list of offsets", many(&shared_nested(50_000), b"h\x01h\x02R")),
        (
            "globals of one long name",
            many(&[&long, b"q\x010".as_slice(), &text("n"), b"q\x020N"].concat(), b"h\x01h\x02\x93"),
        ),
        ("modules of one dict of parameters", shared_parameters(&pairs)),
        ("one list", many(&shared_list, b"h\x00")),
        ("one dict", many(&shared_dict, b"h\x00")),
    ] {
        // Either outcome is right; swift it has to be.
        swift(SLOW, what, || {
            let _ = try_open(&pickle).map(|checkpoint| {
                let _ = checkpoint.state_dict().map(|state| state.len());
                (checkpoint.tensors().count(), checkpoint.root().to_string())
            });
            let _ = LoadOptions::new().unsafe_globals_in_bytes(around(&pickle));
        });
        println!("{what}: survived");
    }
}

/// Puts the state of an array of a byte for each character of a text at 2, and what makes an array at 3 and 4.
fn shared_array(text_once: &[u8]) -> Vec<u8> {
    let len = i64::try_from(text_once.len() - 5).unwrap();
    let dtype = call("numpy.dtype", &[&text("u1"), b"\x89\x88"]);
    let state = [
        &int(1),
        &ints(&[len]),
        dtype.as_slice(),
        b"(K\x03",
        &text("|"),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89",
    ];
    [
        b"(",
        state.concat().as_slice(),
        text_once,
        b"tq\x020cnumpy.core.multiarray\n_reconstruct\nq\x030(cnumpy\nndarray\nK\0\x85",
        &text("b"),
        b"tq\x04",
    ]
    .concat()
}

/// Puts the rebuilding of a nested tensor at 1, and its arguments at 2: components without elements.
fn shared_nested(components: i64) -> Vec<u8> {
    let longs = call("torch.LongStorage", &[]);
    let class = &longs[..longs.len() - 3];
    let sizes = [b"(", text("storage").as_slice(), class, &text("0"), &text("cpu"), &int(3), b"tQ"].concat();
    let zeros: Vec<i64> = vec![0; usize::try_from(components).unwrap()];
    let of_sizes = tensor(&sizes, 0, &[components, 0], &[0, 1]);
    [
        b"ctorch._utils\n_rebuild_nested_tensor\nq\x010(",
        tensor(&storage("0", 6), 0, &[6], &[1]).as_slice(),
        &of_sizes,
        &of_sizes,
        &ints(&zeros),
        b"tq\x02",
    ]
    .concat()
}

/// A hundred modules, each of which holds the one before twice, and all the same parameters.
fn shared_parameters(pairs: &[u8]) -> Vec<u8> {
    let mut root = [b"}(", pairs, b"uq\x000N"].concat();
    for _ in 0..100 {
        root.extend(b"q\x010ca\nb\n)\x81}(");
        root.extend([text("_parameters"), b"h\x00".to_vec(), text("_buffers"), b"}".to_vec()].concat());
        root.extend([text("_modules"), b"}(".to_vec()].concat());
        root.extend([text("a"), b"h\x01".to_vec(), text("b"), b"h\x01uub".to_vec()].concat());
    }
    pickle(&[&root])
}

#[test]
fn names_grow_with_depth_within_their_limit() {
    // A tensor at each of 20,000 levels: the names would take 800 MB.
    let weight = tensor(&storage("0", 6), 0, &[6], &[1]);
    let level = [b"](h\x00".as_slice()].concat();
    let deep = pickle(&[&weight, b"q\x000", &level.repeat(20_000), b"N", &b"e".repeat(20_000)]);
    let open = |pickle: &[u8]| {
        let limits = Limits::default().names_bytes(8 << 20);
        LoadOptions::new().limits(limits).from_bytes(around(pickle)).map(drop)
    };
    let error = open(&deep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("names_bytes"), "{error}");
    // One long key over 20,000 tensors.
    let key = text(&"k".repeat(20_000));
    let entry = [b"}h\x01h\x00s".as_slice()].concat();
    let wide = pickle(&[&weight, b"q\x000", &key, b"q\x010(", &entry.repeat(20_000), b"l"]);
    assert_eq!(open(&wide).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn parts_of_tensors_are_no_tensors_with_parts() {
    let int64 =
        [b"(", text("storage").as_slice(), b"ctorch\nLongStorage\n", &text("0"), &text("cpu"), b"K\x03tQ"]
            .concat();
    let plain = tensor(&int64, 0, &[2, 0], &[1, 1]);
    let layout = call("torch.serialization._get_layout", &[&text("torch.sparse_coo")]);
    let wrap = |part: &[u8]| {
        let data = [b"(", part, part, b"(K\x02K\x00tt"].concat();
        call("torch._utils._rebuild_sparse_tensor", &[&layout, &data])
    };
    let error = try_open(&dict_of("s", &wrap(&wrap(&plain)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(try_open(&good_pickle()).is_ok());
}
