//! The crate `safetensors`, on files of its own format.

use std::fs::{self, File};

use safetensors::SafeTensors;

use super::floor::map;
use crate::Outcome;
use crate::sample::{Job, Sample, measure};

pub fn load(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let map = map(&File::open(job.file)?)?;
        let file = SafeTensors::deserialize(&map)?;
        let tensors: Vec<(String, Vec<u8>)> =
            file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
        Ok((tensors.len(), (tensors, map)))
    })
}

/// The bytes of every tensor in the pages of the file, and with them names, types and shapes.
pub fn views(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let map = map(&File::open(job.file)?)?;
        let file = SafeTensors::deserialize(&map)?;
        let tensors = file.iter().map(|(name, view)| {
            std::hint::black_box((name, view.dtype(), view.shape(), view.data()));
        });
        Ok((tensors.count(), map))
    })
}

pub fn save(job: &Job) -> Outcome<Vec<Sample>> {
    let bytes = fs::read(job.file)?;
    let file = SafeTensors::deserialize(&bytes)?;
    measure(job, || Ok((file.len(), safetensors::serialize_to_file(file.tensors(), None, job.out)?)))
}
