//! ptser.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::process::Command;

use candle_core::Device;
use nix::sys::resource::{UsageWho, getrusage};
use ptser::candle::PtOptions;
use ptser::{Checkpoint, DType, LoadOptions, SaveOptions, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::PROBE;
use crate::Outcome;
use crate::sample::{Job, Sample, measure, on_one_core};

/// Where the program `ptser` is, which the command that compares has built.
pub const CLI: &str = "PTSER_CLI";

pub fn load(job: &Job) -> Outcome<Vec<Sample>> {
    load_with(&LoadOptions::new(), job)
}

pub fn load_on_one_core(job: &Job) -> Outcome<Vec<Sample>> {
    on_one_core()?;
    load(job)
}

pub fn load_verified(job: &Job) -> Outcome<Vec<Sample>> {
    load_with(&LoadOptions::new().verify_crc(true), job)
}

fn load_with(options: &LoadOptions, job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let tensors =
            PtOptions::new().load_options(options.clone()).open(job.file)?.load_all(&Device::Cpu)?;
        Ok((tensors.len(), tensors))
    })
}

/// The bytes of every tensor, in the pages of the file.
pub fn views(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let checkpoint = LoadOptions::new().mmap(true).open(job.file)?;
        let mut tensors = 0;
        for (name, tensor) in checkpoint.tensors() {
            lent(name, tensor)?;
            tensors += 1;
        }
        Ok((tensors, checkpoint))
    })
}

fn lent<'t>(name: &str, tensor: &'t Tensor) -> Outcome<&'t [u8]> {
    match tensor.to_contiguous()? {
        Cow::Borrowed(bytes) => Ok(std::hint::black_box(bytes)),
        Cow::Owned(_) => Err(format!("{name} was copied").into()),
    }
}

/// Names, types and shapes.
pub fn metadata(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let checkpoint = Checkpoint::open(job.file)?;
        let tensors = checkpoint.tensors().map(|(name, tensor)| {
            std::hint::black_box((name, tensor.dtype(), tensor.shape()));
        });
        Ok((tensors.count(), checkpoint))
    })
}

pub fn one_tensor(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let checkpoint = Checkpoint::open(job.file)?;
        let bytes = checkpoint.tensor(PROBE)?.to_contiguous()?.into_owned();
        Ok((checkpoint.tensors().count(), bytes))
    })
}

pub fn save(job: &Job) -> Outcome<Vec<Sample>> {
    save_with(&SaveOptions::new().durable(false), job)
}

pub fn save_without_crc(job: &Job) -> Outcome<Vec<Sample>> {
    save_with(&SaveOptions::new().durable(false).crc32(false), job)
}

pub fn save_durably(job: &Job) -> Outcome<Vec<Sample>> {
    save_with(&SaveOptions::new(), job)
}

fn save_with(options: &SaveOptions, job: &Job) -> Outcome<Vec<Sample>> {
    let tensors = ptser::candle::load(job.file, &Device::Cpu)?;
    measure(job, || Ok((tensors.len(), ptser::candle::save_with(options, &tensors, job.out)?)))
}

/// A safetensors file, written by the crate of that name from the pages of the checkpoint.
pub fn to_safetensors(job: &Job) -> Outcome<Vec<Sample>> {
    measure(job, || {
        let checkpoint = LoadOptions::new().mmap(true).open(job.file)?;
        let views = checkpoint.tensors().map(|(name, tensor)| match tensor.dtype() {
            DType::Float32 => {
                let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), lent(name, tensor)?);
                Ok((name, view?))
            }
            other => Err(format!("{name} is {other}").into()),
        });
        let views = views.collect::<Outcome<HashMap<_, _>>>()?;
        let tensors = views.len();
        Ok((tensors, safetensors::serialize_to_file(views, None, job.out)?))
    })
}

/// `ptser convert`, its own start included.
pub fn convert(job: &Job) -> Outcome<Vec<Sample>> {
    let program = std::env::var_os(CLI).ok_or("the program ptser was not built")?;
    let job = &Job { out: &job.out.with_extension("safetensors"), ..*job };
    let mut samples = measure(job, || {
        let output = Command::new(&program).arg("convert").args([job.file, job.out]).output()?;
        match output.status.success() {
            true => Ok((0, ())),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    })?;
    let peak = f64::from(i32::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?) / 1024.0;
    let tensors = safetensors::SafeTensors::deserialize(&super::floor::map(&File::open(job.out)?)?)?.len();
    std::fs::remove_file(job.out)?;
    for sample in &mut samples {
        *sample = Sample { peak_mib: peak, anonymous_mib: None, tensors, ..*sample };
    }
    Ok(samples)
}
