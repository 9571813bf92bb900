//! Who is compared with whom, on which file; a table each, whose first row is 1.00.

use crate::fixtures::Fixture;
use crate::subjects::{Subject, candle, floor, ptser, pytorch_reader, safetensors};

/// A table.
pub struct Group {
    /// A letter, and a number where there are several of it.
    pub id: &'static str,
    pub title: &'static str,
    /// How often a run measures each subject: more often where it takes no time.
    pub repeats: usize,
    /// How often a process does the work, one time after the other; the first of several is not looked at.
    pub rounds: usize,
    pub subjects: &'static [Subject],
}

impl Group {
    /// Whether a letter, or the whole name, means this group.
    pub fn is_in(&self, letter: &str) -> bool {
        !letter.is_empty() && self.id.starts_with(letter)
    }
}

const LARGE: Fixture = Fixture::Large;
const LARGE_SAFETENSORS: Fixture = Fixture::LargeSafetensors;
const MANY: Fixture = Fixture::Many(20_000);
const MANY_SAFETENSORS: Fixture = Fixture::ManySafetensors(20_000);
const SPARSE_10_MB: Fixture = Fixture::Sparse(100 << 10);
const SPARSE_10_GB: Fixture = Fixture::Sparse(100 << 20);
const QUICK: usize = 3;
/// A virtual machine may have given free memory back to its host, and waits when it is to hold a file: seldom for what
/// the same process has just written and removed.
const WRITES: usize = 6;

pub const ALL: &[Group] = &[
    Group {
        id: "A",
        title: "1 GiB in 300 tensors, loaded into memory of their own",
        repeats: 1,
        rounds: 1,
        subjects: &[
            Subject::floor("memcpy of a mapping", LARGE, floor::memcpy),
            Subject::floor("pread into huge pages", LARGE, floor::pread),
            Subject::floor("pread into huge pages, 2 threads", LARGE, floor::pread_by_two),
            Subject::ptser("ptser into candle", LARGE, ptser::load),
            Subject::ptser("ptser into candle, one core", LARGE, ptser::load_on_one_core),
            Subject::ptser("ptser into candle, CRC verified", LARGE, ptser::load_verified),
            Subject::torch("torch.load", LARGE, "load"),
            Subject::peer("pytorch-reader, CRC verified", LARGE, pytorch_reader::load),
            Subject::peer("pytorch-reader, CRC verified, 2 threads", LARGE, pytorch_reader::load_by_two),
            Subject::peer("candle pickle::read_all", LARGE, candle::load),
            Subject::peer("safetensors, mapped and copied", LARGE_SAFETENSORS, safetensors::load),
            Subject::peer("candle safetensors::load", LARGE_SAFETENSORS, candle::load_safetensors),
        ],
    },
    Group {
        id: "B",
        title: "1 GiB in 300 tensors, as views of a mapped file, none of them touched",
        repeats: QUICK,
        rounds: 1,
        subjects: &[
            Subject::ptser("ptser, mmap(true)", LARGE, ptser::views),
            Subject::peer("safetensors, mapped", LARGE_SAFETENSORS, safetensors::views),
            Subject::torch("torch.load(mmap=True)", LARGE, "views"),
        ],
    },
    Group {
        id: "C",
        title: "Names, types and shapes of 300 tensors",
        repeats: QUICK,
        rounds: 1,
        subjects: &[
            Subject::floor("directory and pickle read", LARGE, floor::directory_and_pickle),
            Subject::ptser("ptser", LARGE, ptser::metadata),
            Subject::peer("safetensors", LARGE_SAFETENSORS, safetensors::views),
            Subject::peer("pytorch-reader", LARGE, pytorch_reader::metadata),
            Subject::peer("candle read_pth_tensor_info", LARGE, candle::metadata),
            Subject::torch("torch.load(map_location=\"meta\")", LARGE, "metadata"),
        ],
    },
    Group {
        id: "D1",
        title: "Names, types and shapes of 20,000 tensors",
        repeats: 1,
        rounds: 1,
        subjects: &[
            Subject::floor("directory and pickle read", MANY, floor::directory_and_pickle),
            Subject::ptser("ptser", MANY, ptser::metadata),
            Subject::peer("safetensors", MANY_SAFETENSORS, safetensors::views),
            Subject::peer("pytorch-reader", MANY, pytorch_reader::metadata),
            Subject::peer("candle read_pth_tensor_info", MANY, candle::metadata),
            Subject::torch("torch.load(map_location=\"meta\")", MANY, "metadata"),
        ],
    },
    Group {
        id: "D2",
        title: "20,000 tensors of 1 to 64 elements, loaded into memory of their own",
        repeats: 1,
        rounds: 1,
        subjects: &[
            Subject::floor("file read", MANY, floor::read),
            Subject::ptser("ptser into candle", MANY, ptser::load),
            Subject::peer("safetensors, mapped and copied", MANY_SAFETENSORS, safetensors::load),
            Subject::peer("pytorch-reader, CRC verified", MANY, pytorch_reader::load),
            Subject::torch("torch.load", MANY, "load"),
            Subject::peer("candle pickle::read_all, 1,000 tensors", Fixture::Many(1_000), candle::load),
            Subject::peer("candle pickle::read_all, 2,000 tensors", Fixture::Many(2_000), candle::load),
        ],
    },
    Group {
        id: "E",
        title: "One tensor of 64 KiB out of 101, in files of 10 MB and of 10 GB",
        repeats: QUICK,
        rounds: 1,
        subjects: &[
            Subject::ptser("ptser, 10 MB", SPARSE_10_MB, ptser::one_tensor),
            Subject::ptser("ptser, 10 GB", SPARSE_10_GB, ptser::one_tensor),
            Subject::peer("pytorch-reader, 10 MB", SPARSE_10_MB, pytorch_reader::one_tensor),
            Subject::peer("pytorch-reader, 10 GB", SPARSE_10_GB, pytorch_reader::one_tensor),
            Subject::peer("candle PthTensors, 10 MB", SPARSE_10_MB, candle::one_tensor),
            Subject::peer("candle PthTensors, 10 GB", SPARSE_10_GB, candle::one_tensor),
            Subject::torch("torch.load(mmap=True), 10 MB", SPARSE_10_MB, "one-tensor"),
            Subject::torch("torch.load(mmap=True), 10 GB", SPARSE_10_GB, "one-tensor"),
        ],
    },
    Group {
        id: "F",
        title: "1 GiB in 300 tensors, saved",
        repeats: 1,
        rounds: WRITES,
        subjects: &[
            Subject::floor("plain write", LARGE, floor::write),
            Subject::floor("plain write and crc32fast", LARGE, floor::write_with_crc),
            Subject::floor("plain write, on the disk", LARGE, floor::write_durably),
            Subject::ptser("ptser from candle", LARGE, ptser::save),
            Subject::ptser("ptser from candle, no CRC", LARGE, ptser::save_without_crc),
            Subject::ptser("ptser from candle, on the disk (its default)", LARGE, ptser::save_durably),
            Subject::torch("torch.save", LARGE, "save"),
            Subject::torch("torch.save, no CRC", LARGE, "save-without-crc"),
            Subject::peer("safetensors serialize_to_file", LARGE_SAFETENSORS, safetensors::save),
            Subject::peer("candle safetensors::save", LARGE, candle::save_safetensors),
        ],
    },
    Group {
        id: "G",
        title: "20,000 tensors of 1 to 64 elements, saved",
        repeats: 1,
        rounds: 1,
        subjects: &[
            Subject::floor("plain write", MANY, floor::write),
            Subject::ptser("ptser from candle", MANY, ptser::save),
            Subject::torch("torch.save", MANY, "save"),
            Subject::peer("safetensors serialize_to_file", MANY_SAFETENSORS, safetensors::save),
            Subject::peer("candle safetensors::save", MANY, candle::save_safetensors),
        ],
    },
    Group {
        id: "H",
        title: "1 GiB from .pt to .safetensors",
        repeats: 1,
        rounds: WRITES,
        subjects: &[
            Subject::floor("plain write", LARGE, floor::write),
            Subject::floor("plain write, on the disk", LARGE, floor::write_durably),
            Subject::ptser("ptser, mmap(true), and safetensors", LARGE, ptser::to_safetensors),
            Subject::ptser("ptser convert, on the disk", LARGE, ptser::convert),
            Subject::torch("torch.load and safetensors save_file", LARGE, "to-safetensors"),
            Subject::peer("candle read_all and safetensors::save", LARGE, candle::to_safetensors),
        ],
    },
    Group {
        id: "I",
        title: "Growth: names, types and shapes, by the number of tensors",
        repeats: 1,
        rounds: 1,
        subjects: &[
            Subject::ptser("ptser, 20,000", MANY, ptser::metadata),
            Subject::ptser("ptser, 100,000", Fixture::Many(100_000), ptser::metadata),
            Subject::ptser("ptser, 500,000", Fixture::Many(500_000), ptser::metadata),
        ],
    },
];
