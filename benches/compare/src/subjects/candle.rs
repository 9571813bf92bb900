//! candle: its reader of PyTorch's files, and its safetensors files.

use std::collections::HashMap;

use candle_core::pickle::{self, PthTensors};
use candle_core::{Device, Tensor, safetensors};

use super::PROBE;
use crate::Outcome;
use crate::sample::{Job, Sample, measure};

pub fn load(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let tensors = pickle::read_all(job.file)?;
        Ok((tensors.len(), tensors))
    })
}

pub fn load_safetensors(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let tensors = safetensors::load(job.file, &Device::Cpu)?;
        Ok((tensors.len(), tensors))
    })
}

pub fn metadata(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let tensors = pickle::read_pth_tensor_info(job.file, false, None)?;
        Ok((tensors.len(), tensors))
    })
}

pub fn one_tensor(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let file = PthTensors::new(job.file, None)?;
        let tensor = file.get(PROBE)?.ok_or("the tensor is missing")?;
        Ok((file.tensor_infos().len(), tensor))
    })
}

pub fn save_safetensors(job: &Job) -> Outcome<Vec<Sample>> {
    let tensors: HashMap<String, Tensor> = ptser::candle::load(job.file, &Device::Cpu)?.into_map();
    measure(job, || Ok((tensors.len(), safetensors::save(&tensors, job.out)?)))
}

pub fn to_safetensors(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let tensors: HashMap<String, Tensor> = pickle::read_all(job.file)?.into_iter().collect();
        safetensors::save(&tensors, job.out)?;
        Ok((tensors.len(), tensors))
    })
}
