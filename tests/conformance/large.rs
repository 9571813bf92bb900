//! Files too large to keep, and the rows that need them: `tests/fixtures/conformance/segments.py` says how they are
//! kept. The bytes between the stretches that are kept are invented here, from their place in the file.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};

use ptser::{
    ByteOrder, Checkpoint, DType, Format, Globals, LoadOptions, ReadAt, SaveOptions, Tensor, ValueKind,
};

use crate::given;
use crate::readers::Counting;
use crate::saved::Sink;

/// A file of which little is there.
#[derive(Clone)]
pub(crate) struct Sparse {
    size: u64,
    segments: Vec<(u64, Vec<u8>)>,
    filling: fn(u64) -> u8,
}

impl Sparse {
    pub(crate) fn open(name: &str, filling: fn(u64) -> u8) -> Self {
        let file = given::bytes(name);
        let mut rest = file.as_slice();
        let number = |rest: &mut &[u8]| {
            let (number, after) = rest.split_first_chunk::<8>().expect(name);
            *rest = after;
            u64::from_le_bytes(*number)
        };
        let size = number(&mut rest);
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let (offset, len) = (number(&mut rest), number(&mut rest));
            let (segment, after) = rest.split_at(usize::try_from(len).unwrap());
            segments.push((offset, segment.to_vec()));
            rest = after;
        }
        Self { size, segments, filling }
    }

    /// All of it, where it is small enough.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap()];
        self.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + u64::try_from(buf.len()).unwrap();
        if end > self.size {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for (byte, place) in buf.iter_mut().zip(offset..) {
            *byte = (self.filling)(place);
        }
        for (start, segment) in &self.segments {
            let stop = start + u64::try_from(segment.len()).unwrap();
            let (from, to) = (offset.max(*start), end.min(stop));
            if from < to {
                let within = |place: u64, base: u64| usize::try_from(place - base).unwrap();
                buf[within(from, offset)..within(to, offset)]
                    .copy_from_slice(&segment[within(from, *start)..within(to, *start)]);
            }
        }
        Ok(())
    }
}

/// Reads a source from front to back, no more than some bytes at a time.
pub(crate) struct Reader<S> {
    source: S,
    position: u64,
    most: usize,
}

impl<S> Reader<S> {
    pub(crate) fn new(source: S, most: usize) -> Self {
        Self { source, position: 0, most }
    }
}

impl<S: ReadAt> Read for Reader<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.source.size() - self.position).unwrap();
        let len = buf.len().min(self.most).min(left);
        self.source.read_exact_at(&mut buf[..len], self.position)?;
        self.position += u64::try_from(len).unwrap();
        Ok(len)
    }
}

impl<S: ReadAt> Seek for Reader<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta).unwrap(),
            SeekFrom::End(delta) => self.source.size().checked_add_signed(delta).unwrap(),
        };
        Ok(self.position)
    }
}

/// What lies at a place: no two places near each other, nor far ones at round distances, have the same.
pub(crate) fn by_place(place: u64) -> u8 {
    u8::try_from(place % 251).unwrap()
}

fn filled(start: u64, len: usize) -> Vec<u8> {
    (start..).take(len).map(by_place).collect()
}

/// Reads some bytes of a tensor's storage.
fn part(tensor: &Tensor, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![MaybeUninit::uninit(); len];
    let storage = tensor.storage().unwrap();
    storage.read_as(tensor.dtype(), ByteOrder::Little, offset, &mut buf).unwrap().to_vec()
}

/// Checks shapes, types and offsets with what PyTorch says, and the bytes at the edges of each storage.
fn check_edges(name: &str, checkpoint: &Checkpoint) {
    let facts = given::facts(name);
    assert_eq!(checkpoint.tensors().count(), facts["shapes"].as_object().unwrap().len());
    for (tensor_name, tensor) in checkpoint.tensors() {
        assert_eq!(serde_json::json!(tensor.shape()), facts["shapes"][tensor_name], "{tensor_name}");
        assert_eq!(facts["dtypes"][tensor_name], tensor.dtype().name(), "{tensor_name}");
        let storage = tensor.storage().unwrap();
        assert_eq!(u64::try_from(tensor.nbytes()).unwrap(), storage.nbytes());
        let start = storage.checkpoint_offset().unwrap().unwrap();
        assert_eq!(facts["offsets"][tensor_name], start, "{tensor_name}");
        let size = storage.nbytes();
        let len = usize::try_from(size.min(64)).unwrap();
        for at in [0, (1 << 31) - 32, (1 << 32) - 32, size / 2 / 4 * 4, size - size.min(64)] {
            if at + u64::try_from(len).unwrap() <= size {
                assert_eq!(part(tensor, at, len), filled(start + at, len), "{tensor_name} at {at}");
            }
        }
        let mut beyond = [MaybeUninit::uninit()];
        assert!(storage.read_as(tensor.dtype(), ByteOrder::Little, size, &mut beyond).is_err());
    }
}

/// Without data, storages lie where they lie in PyTorch's file.
fn check_written(name: &str, checkpoint: &Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.pt");
    let options = SaveOptions::like(checkpoint).unwrap().durable(false).skip_data(true);
    options.save(&path, checkpoint).unwrap();
    let written = Checkpoint::open(&path).unwrap();
    for (tensor_name, tensor) in written.tensors() {
        let start = tensor.storage().unwrap().checkpoint_offset().unwrap().unwrap();
        assert_eq!(given::facts(name)["offsets"][tensor_name], start, "{tensor_name}");
    }
    let sizes = |checkpoint: &Checkpoint| -> Vec<(String, u64)> {
        checkpoint.records().map(|record| (record.name.to_string(), record.size)).collect()
    };
    assert_eq!(sizes(&written), sizes(checkpoint));
}

#[test]
fn test_serialization_filelike_stress() {
    let source = Sparse::open("stress.segments", by_place);
    let checkpoint = Checkpoint::read(Reader::new(source, 4093)).unwrap();
    let tensor = checkpoint.tensor("w").unwrap();
    assert_eq!(tensor.shape(), [5003, 2999]);
    check_edges("stress.segments", &checkpoint);
    let start = tensor.storage().unwrap().checkpoint_offset().unwrap().unwrap();
    let bytes = tensor.to_contiguous().unwrap();
    assert_eq!(bytes.len(), 5003 * 2999 * 4);
    assert!(bytes.iter().zip(start..).all(|(&byte, place)| byte == by_place(place)));
    let mut sink = Sink::new(4093, usize::MAX);
    SaveOptions::new().write(&mut sink, &checkpoint).unwrap();
    let written = Checkpoint::from_bytes(sink.bytes).unwrap();
    assert!(written.tensor("w").unwrap().to_contiguous().unwrap() == bytes);
}

#[test]
fn test_serialization_2gb_file() {
    let source = Sparse::open("two_gigabytes.segments", by_place);
    assert!(source.size() > 1 << 31);
    let checkpoint = LoadOptions::new().source(source).unwrap();
    check_edges("two_gigabytes.segments", &checkpoint);
    check_written("two_gigabytes.segments", &checkpoint);
}

/// Descriptors and offsets behind 4 GiB have other sizes than those before.
#[test]
fn test_serialization_4gb_file() {
    let source = Sparse::open("four_gigabytes.segments", by_place);
    assert!(source.size() > 1 << 32);
    let reads = Arc::new(Mutex::new(Vec::new()));
    let counting = Counting { source: source.clone(), reads: Arc::clone(&reads) };
    let checkpoint = LoadOptions::new().source(counting).unwrap();
    let read: u64 = reads.lock().unwrap().iter().map(|(_, len)| len).sum();
    assert!(read < 1 << 20, "{read} bytes read to open it");
    check_edges("four_gigabytes.segments", &checkpoint);
    assert_eq!(checkpoint.tensor("third").unwrap().dtype(), DType::Float8E4M3Fn);
    let record = |key: &str| checkpoint.records().find(|record| record.name == key).unwrap().size;
    assert_eq!((record("data/0"), record("data/1"), record("data/2")), (4_294_967_316, 1, 3));
    check_written("four_gigabytes.segments", &checkpoint);
    check_edges("four_gigabytes.segments", &Checkpoint::read(Reader::new(source, usize::MAX)).unwrap());
}

/// Three checkpoints and two pickled numbers in one file, one of the checkpoints larger than 2 GiB: opened one after the
/// other by `open`, which is given the place of each.
fn check_offsets(mut open: impl FnMut(u64, Globals) -> Checkpoint) {
    let ends = given::facts("offset.segments")["ends"].as_array().unwrap();
    let mut at = 0;
    for (place, end) in ends.iter().enumerate() {
        let module = place == 4;
        let globals = if module { Globals::inert() } else { Globals::weights_only() };
        let checkpoint = open(at, globals);
        let root = checkpoint.root();
        match (place, checkpoint.format()) {
            (0, Format::Pickle) => assert_eq!(root.as_i64().unwrap(), 41),
            (2, Format::Pickle) => assert_eq!(root.as_i64().unwrap(), 43),
            (1, Format::Legacy) => {
                let tensor = root.as_tensor().unwrap();
                assert_eq!(tensor.shape(), [3, 4]);
                assert_eq!(given::floats(tensor), (0_u8..12).map(f32::from).collect::<Vec<_>>());
            }
            (3, Format::Legacy) => {
                let tensor = root.as_tensor().unwrap();
                assert_eq!((tensor.shape(), tensor.nbytes()), ([3, 1 << 28].as_slice(), 3 << 30));
                let start = at + tensor.storage().unwrap().checkpoint_offset().unwrap().unwrap();
                for offset in [0, (1 << 31) - 16, (3 << 30) - 32] {
                    assert_eq!(part(tensor, offset, 32), filled(start + offset, 32));
                }
            }
            (4, Format::Legacy) => {
                assert!(matches!(root.kind(), ValueKind::Object));
                assert_eq!(root.class(), Some("net.Net"));
                assert_eq!(given::floats(checkpoint.tensors().next().unwrap().1), [0.5, 2.0]);
            }
            (_, format) => panic!("{place}: {format}"),
        }
        at += checkpoint.end_offset().unwrap();
        assert_eq!(*end, at, "where part {place} ends");
    }
}

#[test]
fn test_serialization_offset() {
    let source = Sparse::open("offset.segments", by_place);
    assert!(source.size() > 1 << 31);
    check_offsets(|at, globals| {
        LoadOptions::new().globals(globals).offset(at).source(source.clone()).unwrap()
    });
}

#[test]
fn test_serialization_offset_filelike() {
    let source = Sparse::open("offset.segments", by_place);
    check_offsets(|at, globals| {
        let mut reader = Reader::new(source.clone(), usize::MAX);
        reader.seek(SeekFrom::Start(at)).unwrap();
        LoadOptions::new().globals(globals).read(reader).unwrap()
    });
}
