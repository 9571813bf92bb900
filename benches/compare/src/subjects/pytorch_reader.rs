//! The crate `pytorch-reader`, with which Burn reads PyTorch's files.

use pytorch_reader::{PytorchReader, Tensor};

use super::PROBE;
use crate::Outcome;
use crate::sample::{Job, Sample, measure};

pub fn load(job: &Job) -> Outcome<Vec<Sample>> {
    load_by(1, job)
}

pub fn load_by_two(job: &Job) -> Outcome<Vec<Sample>> {
    load_by(2, job)
}

/// The bytes of every tensor; the reader has no threads of its own.
fn load_by(threads: usize, job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let reader = PytorchReader::new(job.file)?;
        // The largest first, dealt out in turns.
        let mut tensors: Vec<&Tensor> = reader.tensors().values().collect();
        tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.byte_len()));
        let read = |first| tensors.iter().skip(first).step_by(threads).map(|tensor| tensor.read()).collect();
        let loaded: Vec<std::io::Result<Vec<Vec<u8>>>> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..threads).map(|first| scope.spawn(move || read(first))).collect();
            let failed = |_| Err(std::io::ErrorKind::Other.into());
            readers.into_iter().map(|reader| reader.join().unwrap_or_else(failed)).collect()
        });
        let loaded = loaded.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok((loaded.iter().map(Vec::len).sum(), loaded))
    })
}

pub fn metadata(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let reader = PytorchReader::new(job.file)?;
        let tensors = reader.tensors().values().map(|tensor| {
            std::hint::black_box((&tensor.name, tensor.dtype(), tensor.shape()));
        });
        Ok((tensors.count(), reader))
    })
}

pub fn one_tensor(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let reader = PytorchReader::new(job.file)?;
        let bytes = reader.get(PROBE).ok_or("the tensor is missing")?.read()?;
        Ok((reader.len(), bytes))
    })
}
