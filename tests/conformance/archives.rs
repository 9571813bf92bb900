//! The zip archive as a container: records, marks, offsets, damage.

use std::io::Cursor;
use std::path::PathBuf;

use ptser::{
    ByteOrder, Checkpoint, DType, ErrorKind, Format, Globals, LoadOptions, Location, Object, SaveOptions,
    Storage, Tensor,
};
use serde_json::json;

use crate::support::sha256;
use crate::{fixtures, given, saved};

#[test]
fn test_serialization_zipfile_utils() {
    let facts = given::facts("utils.pt");
    for checkpoint in [
        given::open("utils.pt"),
        Checkpoint::from_bytes(given::bytes("utils.pt")).unwrap(),
        Checkpoint::read(std::fs::File::open(given::path("utils.pt")).unwrap()).unwrap(),
    ] {
        let records: Vec<_> =
            checkpoint.records().map(|record| json!([record.name, record.size, record.crc32])).collect();
        assert_eq!(json!(records), facts["records"]);
        for (name, content) in facts["contents"].as_object().unwrap() {
            assert_eq!(checkpoint.note(name).as_deref(), content.as_str(), "{name}");
        }
        assert_eq!(checkpoint.note("c"), None);
        assert_eq!(checkpoint.note("d"), None);
    }
    // What is written: records by their names and with their checksums, as another reader finds them.
    let checkpoint = fixtures::open("state_dict.pt");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state_dict.pt");
    SaveOptions::new().save(&path, &checkpoint).unwrap();
    let mut stream = Vec::new();
    SaveOptions::new().root_folder("state_dict").write(&mut stream, &checkpoint).unwrap();
    assert!(std::fs::read(&path).unwrap() == stream);
    let mut archive = zip::ZipArchive::new(Cursor::new(stream)).unwrap();
    let records: Vec<String> = checkpoint.records().map(|record| record.name.to_string()).collect();
    assert_eq!(archive.len(), records.len());
    for (place, name) in records.iter().enumerate() {
        let mut record = archive.by_index(place).unwrap();
        assert_eq!(record.name().unwrap(), format!("state_dict/{name}"));
        // Which fails where the checksum is another.
        std::io::copy(&mut record, &mut std::io::sink()).unwrap();
    }
}

#[test]
fn test_serialization_fake_zip() {
    // Python's zipfile takes the stream for an archive, because an end record seems to lie in its last bytes.
    assert_eq!(given::facts("fake_zip_legacy.pt")["zipfile"], true);
    for (name, format) in [("fake_zip_legacy.pt", Format::Legacy), ("fake_zip.pt", Format::Zip)] {
        for checkpoint in [given::open(name), Checkpoint::from_bytes(given::bytes(name)).unwrap()] {
            assert_eq!(checkpoint.format(), format);
            given::check(name, &checkpoint);
            let values = checkpoint.root().as_tensor().unwrap().to_contiguous().unwrap().into_owned();
            assert!(values.starts_with(b"PK\x05\x06\0\0") && values.len() == 104);
        }
    }
}

#[test]
fn test_serialization_zipfile() {
    let folder = tempfile::Builder::new().suffix("非ASCIIパス").tempdir().unwrap();
    let elsewhere = folder.path().join("模型 naïve.pt");
    std::fs::copy(given::path("aliases.pt"), &elsewhere).unwrap();
    for checkpoint in [
        given::open("aliases.pt"),
        Checkpoint::open(&elsewhere).unwrap(),
        Checkpoint::read(std::fs::File::open(&elsewhere).unwrap()).unwrap(),
        Checkpoint::from_bytes(given::bytes("aliases.pt")).unwrap(),
    ] {
        given::check("aliases.pt", &checkpoint);
        assert_eq!(checkpoint.root_folder(), "aliases");
    }
    // PyTorch itself hands a path beyond ASCII over as an open file, and then calls the root folder so.
    assert_eq!(fixtures::open("naïve_模型.pt").root_folder(), "archive");
    assert_eq!(fixtures::open("checkpoint_epoch_0100.pt").root_folder(), "checkpoint_epoch_0100");
    let checkpoint = given::open("aliases.pt");
    let root = |path: &std::path::Path| Checkpoint::open(path).unwrap().root_folder().to_owned();
    for (name, expected) in [("aliases.pt", "aliases"), ("模型 naïve.pt", "archive")] {
        let path = folder.path().join(name);
        SaveOptions::new().root_folder(expected).save(&path, &checkpoint).unwrap();
        assert!(
            std::fs::read(&path).unwrap()
                == SaveOptions::new().root_folder(expected).to_bytes(&checkpoint).unwrap()
        );
        SaveOptions::new().save(&path, &checkpoint).unwrap();
        // The folder's name is beyond ASCII, too.
        assert_eq!(root(&path), "archive");
        given::check("aliases.pt", &Checkpoint::open(&path).unwrap());
    }
    let plain = tempfile::tempdir().unwrap();
    SaveOptions::new().save(plain.path().join("some.model.pt"), &checkpoint).unwrap();
    assert_eq!(root(&plain.path().join("some.model.pt")), "some.model");
    let mut file = std::fs::File::create(&elsewhere).unwrap();
    SaveOptions::new().write(&mut file, &checkpoint).unwrap();
    assert_eq!(root(&elsewhere), "archive");
}

#[test]
fn test_serialization_zipfile_actually_jit() {
    // PyTorch refuses to load TorchScript as weights only; nothing of the program runs here.
    assert!(given::facts("actually_jit.pt")["refusal"].as_str().unwrap().contains("TorchScript"));
    let checkpoint = given::open("actually_jit.pt");
    assert_eq!(checkpoint.format(), Format::TorchScript);
    let hashes = given::facts("actually_jit.pt")["sha256"].as_object().unwrap();
    for (name, hash) in hashes {
        assert_eq!(sha256(&checkpoint.tensor(name).unwrap().to_contiguous().unwrap()), *hash, "{name}");
    }
    assert_eq!(checkpoint.tensors().count(), hashes.len());
}

#[test]
fn test_pathlike_serialization() {
    let path: PathBuf = fixtures::path("state_dict.pt");
    let text: &str = path.to_str().unwrap();
    let expected = fixtures::contents(&fixtures::open("state_dict.pt"));
    for policy in [Globals::weights_only(), Globals::inert()] {
        let options = LoadOptions::new().globals(policy);
        for checkpoint in [
            options.open(text),
            options.open(String::from(text)),
            options.open(path.as_path()),
            options.open(&path),
            options.open(path.as_os_str()),
            options.open(path.clone()),
        ] {
            assert_eq!(fixtures::contents(&checkpoint.unwrap()), expected);
        }
    }
    let (folder, checkpoint) = (tempfile::tempdir().unwrap(), fixtures::open("state_dict.pt"));
    let path = folder.path().join("state_dict.pt");
    let (save, written) = (SaveOptions::new().durable(false), fixtures::bytes("state_dict.pt"));
    let check = |saved: ptser::Result<()>| {
        saved.unwrap();
        assert!(std::fs::read(&path).unwrap() == written);
        std::fs::remove_file(&path).unwrap();
    };
    check(save.save(path.to_str().unwrap(), &checkpoint));
    check(save.save(String::from(path.to_str().unwrap()), &checkpoint));
    check(save.save(path.as_path(), &checkpoint));
    check(save.save(&path, &checkpoint));
    check(save.save(path.as_os_str(), &checkpoint));
    check(save.save(path.clone(), &checkpoint));
}

#[test]
fn test_serialization_byteorder_mark() {
    for (file, order) in [("lstm_le_marked", ByteOrder::Little), ("lstm_be_marked", ByteOrder::Big)] {
        let checkpoint = given::open(&format!("byte_order/{file}.pt"));
        assert_eq!(checkpoint.note("byteorder").as_deref(), Some(order.name()), "{file}");
        assert_eq!(checkpoint.byte_order(), order);
        assert!(checkpoint.storages().iter().all(|storage| storage.byte_order() == order));
    }
    assert_eq!(given::open("byte_order/lstm_le.pt").note("byteorder"), None);
    let checkpoint = given::open("byte_order/lstm_le.pt");
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let saved = saved::open(SaveOptions::new().byte_order(order).to_bytes(&checkpoint).unwrap());
        assert_eq!((saved.note("byteorder").as_deref(), saved.byte_order()), (Some(order.name()), order));
        assert_eq!(fixtures::contents(&saved), fixtures::contents(&checkpoint));
    }
    // By default this machine's.
    let saved = saved::open(SaveOptions::new().to_bytes(&checkpoint).unwrap());
    assert_eq!(saved.note("byteorder").as_deref(), Some(ByteOrder::NATIVE.name()));
}

#[test]
fn test_crc32_options() {
    let (with, without) = (fixtures::open("buffer.pt"), fixtures::open("crc_off.pt"));
    assert_eq!(fixtures::contents(&with), fixtures::contents(&without));
    for file in ["buffer.pt", "crc_off.pt"] {
        let checked = LoadOptions::new().verify_crc(true).from_bytes(fixtures::bytes(file)).unwrap();
        assert_eq!(fixtures::contents(&checked), fixtures::contents(&with));
    }
    // 0 is the checksum of nothing, too.
    let sums = |checkpoint: &Checkpoint| -> Vec<bool> {
        checkpoint.records().map(|record| record.size == 0 || record.crc32 != 0).collect()
    };
    assert!(sums(&with).iter().all(|&there| there));
    assert!(without.records().all(|record| record.crc32 == 0));
    assert!(sums(&without).contains(&false));
    saved::identical_zip("buffer.pt", |options| options);
    saved::identical_zip("crc_off.pt", |options| options.crc32(false));
    // Other readers mind.
    let read = |crc32: bool| {
        let saved = SaveOptions::new().crc32(crc32).to_bytes(&with).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(saved)).unwrap();
        let mut record = archive.by_index(0).unwrap();
        std::io::copy(&mut record, &mut std::io::sink())
    };
    assert!(read(true).is_ok() && read(false).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn test_serialization_with_header() {
    let bytes = given::bytes("header.pt");
    assert!(bytes.starts_with(b"headerPK"));
    let mut reader = Cursor::new(bytes.clone());
    reader.set_position(6);
    let at_offset = LoadOptions::new().offset(6);
    for (checkpoint, before) in [
        (Checkpoint::read(reader).unwrap(), 0),
        (at_offset.open(given::path("header.pt")).unwrap(), 0),
        (at_offset.clone().mmap(true).open(given::path("header.pt")).unwrap(), 0),
        // Without a word about the header it is found.
        (given::open("header.pt"), 6),
    ] {
        given::check("header.pt", &checkpoint);
        assert_eq!(checkpoint.archive_offset(), before);
        for storage in checkpoint.storages().iter().filter(|storage| storage.nbytes() > 0) {
            // Offsets count from where the checkpoint was said to begin.
            let start = storage.checkpoint_offset().unwrap().unwrap() + 6 - before;
            let start = usize::try_from(start).unwrap();
            let content = storage.to_vec().unwrap();
            assert_eq!(bytes[start..start + content.len()], content);
        }
    }
}

#[test]
fn test_has_format_version() {
    assert_eq!(fixtures::open("linear_align64.pt").note(".format_version").as_deref(), Some("1"));
    assert_eq!(fixtures::open("torch113_layout.pt").note(".format_version"), None);
    let old = fixtures::open("torch113_layout.pt");
    let saved = saved::open(SaveOptions::new().to_bytes(&old).unwrap());
    assert_eq!(saved.note(".format_version").as_deref(), Some("1"));
}

/// PyTorch reads some records only to forget them, and then fails where one is damaged; nothing that is not needed is
/// read here.
#[test]
fn test_corrupted_checkpoint_error_message() {
    let told = given::facts("../zip/linear_align64.pt")["damaged"].as_object().unwrap();
    let bytes = fixtures::bytes("linear_align64.pt");
    let headers: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"PK\x03\x04")).collect();
    assert_eq!(headers.len(), told.len());
    let mut failed = Vec::new();
    for (&at, (name, pytorch)) in headers.iter().zip(told) {
        let pytorch = pytorch.as_str().unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xFF;
        let read = || fixtures::read_all(&LoadOptions::new(), damaged.clone());
        let Err(error) = read() else {
            assert!(!name.starts_with("data"), "{name}");
            continue;
        };
        failed.push(name.as_str());
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        if at > 0 {
            assert!(pytorch.contains(&format!("reading file {name}")), "{pytorch}");
        }
        assert_eq!(error.record(), Some(name.as_str()), "{error}");
        let text = error.to_string();
        assert!(text.contains("local header is damaged") && text.contains(name), "{text}");
        assert!(text.contains("altered") && text.contains("transfer"), "{text}");
    }
    assert_eq!(failed, ["data.pkl", "byteorder", "data/0", "data/1", "version"]);
}

#[test]
fn test_storage_alignment() {
    for (file, alignment, offsets) in
        [("linear_align64.pt", "64", [832, 1344]), ("linear_align4096.pt", "4096", [20480, 24576])]
    {
        let checkpoint = fixtures::open(file);
        assert_eq!(checkpoint.note(".storage_alignment").as_deref(), Some(alignment));
        let found: Vec<u64> = ["weight", "bias"]
            .iter()
            .map(|name| {
                let storage = checkpoint.tensor(name).unwrap().storage().unwrap();
                storage.checkpoint_offset().unwrap().unwrap()
            })
            .collect();
        assert_eq!(found, offsets, "{file}");
        let (_, told) = fixtures::expected().into_iter().find(|(name, _)| name == file).unwrap();
        assert_eq!(told["offsets"], json!(offsets), "PyTorch finds others");
        let mapped = LoadOptions::new().mmap(true).open(fixtures::path(file)).unwrap();
        assert_eq!(fixtures::contents(&mapped), fixtures::contents(&checkpoint));
    }
    // Made here, with and without data.
    let zeros = |shape: &[usize]| {
        let nbytes = shape.iter().product::<usize>() * 4;
        let storage = Storage::from_bytes(Some(DType::Float32), Location::cpu(), vec![0; nbytes]);
        Tensor::contiguous(storage, DType::Float32, shape).unwrap()
    };
    let linear = Object::ordered_dict_with(
        [("weight".to_owned(), zeros(&[10, 10])), ("bias".to_owned(), zeros(&[10]))],
        [("_metadata", Object::ordered_dict([(String::new(), Object::dict([("version", 1)]))]))],
    );
    for (alignment, offsets) in [(64, [832, 1344]), (4096, [20480, 24576])] {
        for skip in [false, true] {
            let options = SaveOptions::new().alignment(alignment).skip_data(skip);
            let saved = saved::open(options.to_bytes(&linear).unwrap());
            let found: Vec<u64> = saved
                .storages()
                .iter()
                .map(|storage| storage.checkpoint_offset().unwrap().unwrap())
                .collect();
            assert_eq!(found, offsets, "{alignment}");
        }
        saved::identical_zip(&format!("linear_align{alignment}.pt"), |options| options.alignment(alignment));
    }
}

/// Offsets by PyTorch's formula are those in the records' headers, and the data is found there.
#[test]
fn test_mmap_load_offset_calculation() {
    let mut compared = 0;
    for (file, told) in fixtures::expected_in("offsets") {
        let path = fixtures::folder().join("offsets").join(&file);
        let read = LoadOptions::new().mmap(true).open(&path).unwrap();
        let computed = LoadOptions::new().mmap(true).computed_offsets(true).open(&path).unwrap();
        for (storage, same) in read.storages().iter().zip(computed.storages()) {
            let offset = storage.checkpoint_offset().unwrap();
            assert_eq!(same.checkpoint_offset().unwrap(), offset, "{file}: {}", storage.key());
            assert_eq!(offset, told[storage.key()].as_u64(), "{file}: {}", storage.key());
            compared += 1;
        }
        assert_eq!(fixtures::contents(&computed), fixtures::contents(&read), "{file}");
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn test_serialization_new_format_old_format_compat() {
    let (new, old) = (given::open("both_new.pt"), given::open("both_old.pt"));
    assert_eq!((new.format(), old.format()), (Format::Zip, Format::Legacy));
    given::check("both_new.pt", &new);
    given::check("both_old.pt", &old);
    assert_eq!(new.tensors().count(), 30);
    assert_eq!(fixtures::contents(&new), fixtures::contents(&old));
    saved::again("both_new.pt");
    saved::again("both_old.pt");
    saved::identical("both_new.pt");
    saved::identical("both_old.pt");
}
