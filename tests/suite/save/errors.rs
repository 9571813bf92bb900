//! What cannot be saved, and where it cannot be saved to.

use std::io::{self, Write};

use ptser::{
    DType, ErrorKind, Format, HostBytes, Location, Object, Result as PtserResult, SaveOptions, Storage,
    Tensor,
};

use super::{expected, floats, path_of, raw, small, storage};
use crate::fixtures;

fn misuse(saved: PtserResult<Vec<u8>>) -> String {
    let error = saved.expect_err("it is saved");
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    error.to_string()
}

#[test]
fn alignments_beyond_the_format_are_misuse() {
    for alignment in [0, 65_497, 131_072, u64::MAX] {
        let error = misuse(SaveOptions::new().alignment(alignment).to_bytes(&small()));
        assert!(error.contains(&alignment.to_string()) && error.contains("65496"), "{error}");
    }
}

#[test]
fn protocols_that_are_not_written_are_misuse() {
    for protocol in [0, 1, 6, 255] {
        let error = SaveOptions::new().protocol(protocol).expect_err("it is taken");
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(error.to_string().contains("2 to 5"), "{error}");
    }
}

#[test]
fn formats_that_are_not_written_are_misuse() {
    for format in [Format::Tar, Format::TorchScript, Format::Pickle, Format::Safetensors] {
        assert_eq!(SaveOptions::new().format(format).expect_err("it is taken").kind(), ErrorKind::Misuse);
    }
    let legacy = SaveOptions::new().format(Format::Legacy).unwrap();
    assert!(misuse(legacy.skip_data(true).to_bytes(&small())).contains("legacy"));
}

/// PyTorch's message.
#[test]
fn one_storage_of_two_types_is_misuse() {
    let (whole, octets) = (storage(DType::Float32, 4), storage(DType::Int16, 4));
    let floats = Tensor::contiguous(whole.clone(), DType::Float32, [4]).unwrap();
    let ints = Tensor::contiguous(whole.clone(), DType::Int32, [4]).unwrap();
    let shorts = Tensor::contiguous(octets.clone(), DType::Int16, [4]).unwrap();
    let eighths = Tensor::contiguous(octets, DType::Float8E5M2, [4]).unwrap();
    for (object, told) in [
        (Object::list([floats.clone(), ints]), "two_types"),
        (Object::list([floats.into(), Object::storage(whole, None)]), "typed_and_untyped"),
        (Object::list([shorts, eighths]), "two_types"),
    ] {
        for format in [Format::Zip, Format::Legacy] {
            let options = SaveOptions::new().format(format).unwrap();
            let error = misuse(options.to_bytes(&object)).to_lowercase();
            let pytorch = expected("refusals")[told].as_str().unwrap().to_lowercase();
            assert!(error.contains(&pytorch), "{error}");
        }
    }
}

#[test]
fn data_of_quantized_and_nested_tensors_is_not_left_out() {
    let quantized = ptser::Checkpoint::open(path_of("quantized")).unwrap();
    let nested = fixtures::folder().join("values/nested.pt");
    let nested = ptser::LoadOptions::new().globals(ptser::Globals::inert()).open(nested).unwrap();
    let one = Object::dict([("q", quantized.tensor("channel").unwrap().clone())]);
    let skip = SaveOptions::new().skip_data(true);
    for (saved, told) in [
        (skip.to_bytes(&quantized), "skip_quantized"),
        (skip.to_bytes(&one), "skip_quantized"),
        (skip.to_bytes(&nested), "skip_nested"),
    ] {
        let kind = told.trim_start_matches("skip_");
        assert!(expected("refusals")[told].as_str().unwrap().contains(&kind[..1]));
        assert!(misuse(saved).contains(kind));
    }
    SaveOptions::new().to_bytes(&nested).unwrap();
}

#[test]
fn nested_tensors_are_saved_with_their_checkpoint_and_not_alone() {
    let path = fixtures::folder().join("values/nested.pt");
    let checkpoint = ptser::LoadOptions::new().globals(ptser::Globals::inert()).open(path).unwrap();
    let is_nested = |tensor: &&Tensor| matches!(tensor.kind(), ptser::TensorKind::Nested(_));
    let nested = checkpoint.tensors().map(|(_, tensor)| tensor).find(is_nested).unwrap();
    let error = SaveOptions::new().to_bytes(&Object::from(nested.clone())).expect_err("it is saved");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn views_that_leave_their_storage_are_not_made() {
    let of = || storage(DType::Float32, 6);
    for view in [
        Tensor::contiguous(of(), DType::Float32, [7]),
        Tensor::contiguous(of(), DType::Float64, [4]),
        Tensor::view(of(), DType::Float32, [2], [5], 1),
        Tensor::view(of(), DType::Float32, [2, 3], [3], 0),
        Tensor::view(of(), DType::Float32, [usize::MAX, 2], [1, 1], 0),
        Tensor::view(of(), DType::Float32, [1], [1], usize::MAX),
    ] {
        assert_eq!(view.expect_err("it is made").kind(), ErrorKind::Malformed);
    }
    // Without elements a view may begin anywhere.
    Tensor::view(of(), DType::Float32, [0], [1], 100).unwrap();
}

#[test]
fn names_that_are_too_long_are_misuse() {
    let error = misuse(SaveOptions::new().root_folder("x".repeat(65_530)).to_bytes(&small()));
    assert!(error.contains("name"), "{error}");
}

#[test]
fn a_root_folder_that_no_reader_would_find_is_misuse() {
    for root in ["", "a/b", "/a", "a/"] {
        let error = misuse(SaveOptions::new().root_folder(root).to_bytes(&small()));
        assert!(error.contains(&format!("{root:?}")), "{error}");
    }
}

#[test]
fn folders_that_are_missing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/model.pt");
    let error = SaveOptions::new().save(&path, &small()).expect_err("it is saved");
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(path.as_path())));
    assert!(error.to_string().contains("missing"), "{error}");
    let inner = folder.path().join("folder");
    std::fs::create_dir(&inner).unwrap();
    let error = SaveOptions::new().save(&inner, &small()).expect_err("it is saved");
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(inner.as_path())));
    assert!(error.to_string().contains("folder"), "{error}");
}

/// Fails at a call, in some way; takes a few bytes at a time until then.
struct Failing {
    calls: usize,
    how: fn() -> io::Result<usize>,
}

impl Failing {
    fn call(&mut self) -> bool {
        self.calls = self.calls.wrapping_sub(1);
        self.calls == usize::MAX
    }
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.call() { (self.how)() } else { Ok(bytes.len().min(100)) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.call() { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }
}

#[test]
fn sinks_that_fail_at_any_call_are_errors() {
    let large = raw(DType::UInt8, &[200_000]);
    let object = Object::list([small(), large.into(), small()]);
    for options in [SaveOptions::new(), SaveOptions::new().format(Format::Legacy).unwrap()] {
        let bytes = options.to_bytes(&object).unwrap().len();
        for how in [|| Err(io::ErrorKind::StorageFull.into()), || Ok(0)] {
            let mut failed = 0;
            for calls in 0.. {
                match options.write(&mut Failing { calls, how }, &object) {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
                }
                failed += 1;
            }
            assert!(failed > bytes / 100, "{failed}");
        }
        // Interruptions are none.
        let interrupted = || Err(io::ErrorKind::Interrupted.into());
        options.write(&mut Failing { calls: 3, how: interrupted }, &object).unwrap();
    }
}

/// Bytes that are not there, or not as many as was said.
struct Liar(Option<usize>);

impl HostBytes for Liar {
    fn nbytes(&self) -> u64 {
        16
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> PtserResult<()>) -> PtserResult<()> {
        match self.0 {
            Some(len) => take(&vec![0; len]),
            None => Err(ptser::Error::backend("the device is gone")),
        }
    }
}

#[test]
fn storages_that_fail_leave_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    SaveOptions::new().save(&path, &small()).unwrap();
    let old = std::fs::read(&path).unwrap();
    for liar in [None, Some(0), Some(15), Some(17)] {
        let storage = Storage::from_host(Some(DType::Float32), Location::cpu(), Liar(liar));
        let tensor = Tensor::contiguous(storage, DType::Float32, [4]).unwrap();
        let object = Object::list([floats(&[1000]), tensor]);
        let error = SaveOptions::new().save(&path, &object).expect_err("it is saved");
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        assert_eq!(error.file(), Some(path.as_path()));
        assert!(std::fs::read(&path).unwrap() == old);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "litter");
    }
}
