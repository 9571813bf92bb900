//! Archives of many records, and of records beyond 32 bits, without writing their data.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use ptser::{
    Checkpoint, DType, HostBytes, Location, Object, Result as PtserResult, SaveOptions, Storage, Tensor,
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::expected;
use crate::support::sha256;

/// So many tensors of the byte 7.
fn sevens(count: usize) -> Object {
    let seven = || {
        let storage = Storage::from_bytes(Some(DType::UInt8), Location::cpu(), [7]);
        Tensor::contiguous(storage, DType::UInt8, [1]).unwrap()
    };
    Object::list((0..count).map(|_| seven()))
}

fn id(file: Vec<u8>) -> String {
    Checkpoint::from_bytes(file).unwrap().note(".data/serialization_id").unwrap()
}

#[test]
fn serialization_ids_are_pytorchs() {
    for (count, told) in expected("archives")["ids"].as_object().unwrap() {
        let file = SaveOptions::new().to_bytes(&sevens(count.parse().unwrap())).unwrap();
        assert_eq!(id(file), told.as_str().unwrap(), "{count} storages");
    }
}

#[test]
fn more_records_than_16_bits_count_are_written_as_pytorch_writes_them() {
    let told = &expected("archives")["many"];
    let file = SaveOptions::new().to_bytes(&sevens(66_005)).unwrap();
    assert_eq!(u64::try_from(file.len()).unwrap(), told["len"].as_u64().unwrap());
    assert_eq!(sha256(&file), told["sha256"].as_str().unwrap());
    assert_eq!(id(file), told["id"].as_str().unwrap());
}

/// So many zeros, which cost no memory until somebody writes to them.
struct Zeros {
    nbytes: u64,
    /// Whether they may be asked for.
    there: bool,
}

impl HostBytes for Zeros {
    fn nbytes(&self) -> u64 {
        self.nbytes
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> PtserResult<()>) -> PtserResult<()> {
        assert!(self.there, "data is asked for");
        take(&vec![0; usize::try_from(self.nbytes).unwrap()])
    }
}

fn zeros(sizes: &[u64], there: bool) -> Object {
    Object::list(sizes.iter().map(|&nbytes| {
        let storage = Storage::from_host(Some(DType::UInt8), Location::cpu(), Zeros { nbytes, there });
        Tensor::contiguous(storage, DType::UInt8, [usize::try_from(nbytes).unwrap()]).unwrap()
    }))
}

fn numbers(json: &Json) -> Vec<u64> {
    json.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// Thirteen gigabytes by their length; what is on the disk are headers.
#[test]
fn records_beyond_4_gib_are_written_as_pytorch_writes_them() {
    let told = &expected("archives")["large"];
    let (sizes, offsets) = (numbers(&told["sizes"]), numbers(&told["offsets"]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.pt");
    SaveOptions::new().durable(false).skip_data(true).save(&path, &zeros(&sizes, false)).unwrap();
    let mut file = File::open(&path).unwrap();
    let len = file.metadata().unwrap().len();
    assert_eq!(len, told["len"].as_u64().unwrap());
    let (mut digest, mut at) = (Sha256::new(), 0);
    for (&start, &size) in offsets.iter().zip(&sizes).chain([(&len, &0)]) {
        let mut piece = vec![0; usize::try_from(start - at).unwrap()];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut piece).unwrap();
        digest.update(piece);
        at = start + size;
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, told["sha256"].as_str().unwrap());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let found: Vec<u64> =
        checkpoint.storages().iter().map(|storage| storage.checkpoint_offset().unwrap().unwrap()).collect();
    assert_eq!(found, offsets);
    assert_eq!(checkpoint.note(".data/serialization_id").as_deref(), told["id"].as_str());
}

/// Keeps what is small, and counts the rest.
#[derive(Default)]
struct Outlines {
    kept: Vec<u8>,
    /// Where large writes were, and how large.
    large: Vec<(usize, usize)>,
}

impl Write for Outlines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() < 1 << 20 {
            self.kept.extend(bytes);
        } else {
            self.large.push((self.kept.len(), bytes.len()));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same through a stream, with data: what is beyond 4 GiB is as it is in a file without.
#[test]
fn records_beyond_4_gib_go_through_streams() {
    let sizes = [5, 0x1_0000_0001, 5];
    let mut sink = Outlines::default();
    let options = SaveOptions::new().crc32(false);
    options.write(&mut sink, &zeros(&sizes, true)).unwrap();
    let [(at, len)] = sink.large[..] else { panic!("{:?}", sink.large) };
    assert_eq!(len, 0x1_0000_0001);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.pt");
    options.durable(false).skip_data(true).save(&path, &zeros(&sizes, false)).unwrap();
    let (mut file, mut before, mut behind) = (File::open(&path).unwrap(), vec![0; at], Vec::new());
    file.read_exact(&mut before).unwrap();
    file.seek_relative(i64::try_from(len).unwrap()).unwrap();
    file.read_to_end(&mut behind).unwrap();
    assert!([before, behind].concat() == sink.kept);
}
