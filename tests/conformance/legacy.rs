//! What old versions wrote: tar archives, tensors of other forms, modules with their source text.

use std::io::Cursor;

use ptser::{Checkpoint, Encoding, ErrorKind, Format, Globals, LoadOptions, ValueKind};

use crate::{fixtures, given};

/// The tar archive of torch 0.1, and the two forms in which tensors were pickled before today's.
fn check_backwards_compat(options: &LoadOptions) {
    let (_, told) =
        fixtures::expected_in("legacy").into_iter().find(|(file, _)| file == "torch01.tar").unwrap();
    let checkpoint = options.open(fixtures::folder().join("legacy/torch01.tar")).unwrap();
    assert_eq!(checkpoint.format(), Format::Tar);
    fixtures::check_tensors("torch01.tar", &checkpoint, &told["tensors"]);
    let root = checkpoint.root();
    let get = |name| root.get(name).unwrap();
    assert!(get("weight").is(get("same")) && !get("weight").is(get("view")));
    let storage = |name| checkpoint.tensor(name).unwrap().storage().unwrap();
    assert!(storage("view").whole().unwrap().0.is(storage("weight")));

    let checkpoint = options.open(given::path("old_tensors.pt")).unwrap();
    given::check("old_tensors.pt", &checkpoint);
    for name in ["v1", "v2"] {
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.shape(), tensor.stride()), ([2, 3].as_slice(), [9, 3].as_slice()), "{name}");
        assert_eq!((tensor.storage_offset(), tensor.storage().unwrap().nbytes()), (2, 120), "{name}");
        assert_eq!(given::floats(tensor), [2.0, 5.0, 8.0, 11.0, 14.0, 17.0], "{name}");
    }
    let storages: Vec<_> = checkpoint.tensors().map(|(_, tensor)| tensor.storage().unwrap()).collect();
    assert!(storages[0].is(storages[1]));
}

#[test]
fn test_serialization_backwards_compat() {
    check_backwards_compat(&LoadOptions::new().globals(Globals::inert()));
}

/// PyTorch has no tar archives under weights-only, because its own reader of them runs any pickle. Ours runs none.
#[test]
fn test_serialization_backwards_compat_safe() {
    check_backwards_compat(&LoadOptions::new());
}

/// A module whose class comes with its source text: nothing is compared with it, and the text is there to look at.
fn check_container(open: impl Fn(&LoadOptions) -> ptser::Result<Checkpoint>) {
    let error = open(&LoadOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(given::refused_names(&error).contains(&"net.Net"), "{error}");
    let checkpoint = open(&LoadOptions::new().globals(Globals::inert())).unwrap();
    let net = checkpoint.root();
    assert_eq!(net.class(), Some("net.Net"));
    let (file, source) = net.source().unwrap();
    assert_eq!(file, "net.py");
    assert!(source.starts_with("class Net(torch.nn.Module):\n"), "{source}");
    assert_eq!(net.get("title").unwrap().as_str().unwrap(), "demo");
    let weight = net.get("_parameters").unwrap().get("weight").unwrap().as_tensor().unwrap();
    assert_eq!((weight.is_parameter(), given::floats(weight)), (true, vec![0.5, 2.0]));
}

#[test]
fn test_serialization_container() {
    check_container(|options| options.open(fixtures::folder().join("legacy/module.pt")));
}

#[test]
fn test_serialization_container_filelike() {
    let bytes = std::fs::read(fixtures::folder().join("legacy/module.pt")).unwrap();
    check_container(|options| options.read(Cursor::new(bytes.clone())));
}

/// A module of Python 2, by an encoding that its text does not have.
#[test]
fn test_load_unicode_error_msg() {
    let told = given::facts("python2_module.pt")["ascii"].as_str().unwrap();
    assert!(told.contains("'ascii' codec can't decode byte 0xc3"), "{told}");
    let options = LoadOptions::new().globals(Globals::inert());
    let path = given::path("python2_module.pt");
    let error = options.clone().encoding(Encoding::Ascii).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().to_lowercase().contains("ascii"), "{error}");
    for encoding in [Encoding::Auto, Encoding::Utf8, Encoding::Latin1, Encoding::Bytes] {
        assert!(options.clone().encoding(encoding).open(&path).is_ok(), "{encoding}");
    }
}

/// A module of Python 2, whose text was bytes.
#[test]
fn test_load_python2_unicode_module() {
    let checkpoint = given::inert("python2_module.pt");
    let root = checkpoint.root();
    assert!(matches!(root.kind(), ValueKind::Object));
    assert_eq!(root.class(), Some("net.Net"));
    assert_eq!(root.get("title").unwrap().as_str().unwrap(), "naïve");
    let (file, source) = root.source().unwrap();
    assert_eq!((file, source), ("net.py", given::facts("python2_module.pt")["source"].as_str().unwrap()));
    let (_, weight) = checkpoint.tensors().next().unwrap();
    assert_eq!(given::floats(weight), [0.5, 2.0]);
    assert_eq!(checkpoint.state_dict().unwrap().names().collect::<Vec<_>>().len(), 1);
}
