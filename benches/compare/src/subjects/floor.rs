//! What the machine needs: copies, reads and writes without a format.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use memmap2::{Advice, Mmap, MmapOptions};

use crate::Outcome;
use crate::sample::{Job, Sample, measure};

/// What is written at a time.
const PIECE: usize = 1 << 20;
/// The last records of an archive of PyTorch's: the zip64 end record, its locator, the end record.
const END: usize = 56 + 20 + 22;

/// A plain copy out of a mapping.
pub fn memcpy(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || Ok((job.tensors, map(&File::open(job.file)?)?.to_vec())))
}

pub fn read(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || Ok((job.tensors, fs::read(job.file)?)))
}

pub fn pread(job: &Job) -> Outcome<Vec<Sample>> {
    pread_by(1, job)
}

pub fn pread_by_two(job: &Job) -> Outcome<Vec<Sample>> {
    pread_by(2, job)
}

/// Reads into memory for which huge pages are advised.
fn pread_by(threads: usize, job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let file = File::open(job.file)?;
        let len = usize::try_from(file.metadata()?.len())?;
        let mut memory = MmapOptions::new().len(len).map_anon()?;
        memory.advise(Advice::HugePage)?;
        let part = len.div_ceil(threads);
        std::thread::scope(|scope| {
            let file = &file;
            let parts = memory.chunks_mut(part).zip((0_u64..).step_by(part));
            let readers: Vec<_> =
                parts.map(|(part, offset)| scope.spawn(move || file.read_exact_at(part, offset))).collect();
            readers
                .into_iter()
                .try_for_each(|reader| reader.join().unwrap_or(Err(std::io::ErrorKind::Other.into())))
        })?;
        Ok((job.tensors, memory))
    })
}

/// The archive's directory, walked, and the bytes of its pickle.
pub fn directory_and_pickle(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let file = File::open(job.file)?;
        let end_at = file.metadata()?.len().checked_sub(END.try_into()?).ok_or("the file is too short")?;
        let mut end = [0; END];
        file.read_exact_at(&mut end, end_at)?;
        let (size, offset) = (number::<8>(&end, 40)?, number::<8>(&end, 48)?);
        let mut directory = vec![0; usize::try_from(size)?];
        file.read_exact_at(&mut directory, offset)?;

        let (mut at, mut tensors) = (0, 0);
        while at < directory.len() {
            let lengths = [28, 30, 32].map(|field| number::<2>(&directory, at + field));
            let [name_len, extra_len, comment_len] = lengths;
            let (name_at, name_len) = (at + 46, usize::try_from(name_len?)?);
            let name = directory.get(name_at..name_at + name_len).ok_or("a name leaves the directory")?;
            let in_root = name.iter().position(|&byte| byte == b'/').and_then(|slash| name.get(slash + 1..));
            tensors += usize::from(in_root.is_some_and(|name| name.starts_with(b"data/")));
            at = name_at + name_len + usize::try_from(extra_len? + comment_len?)?;
        }

        // The pickle is the first record.
        let mut header = [0; 30];
        file.read_exact_at(&mut header, 0)?;
        let pickle_at = 30 + number::<2>(&header, 26)? + number::<2>(&header, 28)?;
        let mut pickle = vec![0; usize::try_from(number::<4>(&directory, 20)?)?];
        file.read_exact_at(&mut pickle, pickle_at)?;
        Ok((tensors, (directory, pickle)))
    })
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Outcome<u64> {
    let bytes = bytes.get(at..at + N).ok_or("a number leaves the directory")?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

pub fn write(job: &Job) -> Outcome<Vec<Sample>> {
    write_with(job, |_| (), false)
}

/// Waits for the disk, too.
pub fn write_durably(job: &Job) -> Outcome<Vec<Sample>> {
    write_with(job, |_| (), true)
}

pub fn write_with_crc(job: &Job) -> Outcome<Vec<Sample>> {
    let mut crc = crc32fast::Hasher::new();
    write_with(job, |piece| crc.update(piece), false)
}

fn write_with(job: &Job, mut each: impl FnMut(&[u8]), durable: bool) -> Outcome<Vec<Sample>> {
    let bytes = fs::read(job.file)?;
    measure(job, || {
        let mut file = File::create(job.out)?;
        for piece in bytes.chunks(PIECE) {
            each(piece);
            file.write_all(piece)?;
        }
        if durable {
            file.sync_all()?;
        }
        Ok((job.tensors, ()))
    })
}

/// Maps a file.
#[expect(unsafe_code, reason = "a mapping changes when its file does")]
pub fn map(file: &File) -> Outcome<Mmap> {
    // SAFETY: nobody writes the files that are read here once they are made.
    Ok(unsafe { Mmap::map(file)? })
}
