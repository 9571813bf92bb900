//! The files that are measured with, made by ptser: byte for byte what `torch.save` makes of the same state dict.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ptser::{DType, HostBytes, Location, Object, SaveOptions, Storage};

use crate::Outcome;
use crate::subjects::PROBE;

/// How many tensors a large file has.
const LARGE: u32 = 300;
/// The elements of a row of them.
const ROW: usize = 64;
/// How many tensors stand before the one that is read, and behind.
const BESIDE: usize = 50;
/// The size of the one that is read.
const PROBE_BYTES: usize = 64 << 10;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// A file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fixture {
    /// 300 tensors from 1 KiB up, their sizes spread evenly on a logarithmic scale; 1 GiB unless asked otherwise.
    Large,
    LargeSafetensors,
    /// So many tensors of 1 to 64 elements, named as in a state dict.
    Many(usize),
    ManySafetensors(usize),
    /// A tensor of 64 KiB between 100 of so many bytes, which are holes in the file.
    Sparse(u64),
}

impl Fixture {
    /// The number of tensors.
    pub fn tensors(self) -> usize {
        match self {
            Self::Large | Self::LargeSafetensors => LARGE as usize,
            Self::Many(tensors) | Self::ManySafetensors(tensors) => tensors,
            Self::Sparse(_) => 2 * BESIDE + 1,
        }
    }

    /// Whether all of it fits into the page cache.
    pub fn is_warmed(self) -> bool {
        !matches!(self, Self::Sparse(_))
    }

    /// Makes the file unless it is there.
    pub fn file(self, folder: &Path, mib: u32) -> Outcome<PathBuf> {
        let name = match self {
            Self::Large => format!("large-{mib}.pt"),
            Self::LargeSafetensors => format!("large-{mib}.safetensors"),
            Self::Many(tensors) => format!("many-{tensors}.pt"),
            Self::ManySafetensors(tensors) => format!("many-{tensors}.safetensors"),
            Self::Sparse(nbytes) => format!("sparse-{}.pt", nbytes >> 10),
        };
        let path = folder.join(name);
        if !path.exists() {
            eprintln!("makes {}", path.display());
            fs::create_dir_all(folder)?;
            match self {
                Self::Large => save(large(mib)?, &path)?,
                Self::Many(tensors) => save(many(tensors)?, &path)?,
                Self::LargeSafetensors => save_safetensors(large(mib)?, &path)?,
                Self::ManySafetensors(tensors) => save_safetensors(many(tensors)?, &path)?,
                Self::Sparse(nbytes) => sparse(nbytes, &path)?,
            }
        }
        Ok(path)
    }
}

fn save(tensors: Vec<(String, Tensor)>, path: &Path) -> Outcome<()> {
    Ok(ptser::candle::save_with(&SaveOptions::new().durable(false), tensors, path)?)
}

fn save_safetensors(tensors: Vec<(String, Tensor)>, path: &Path) -> Outcome<()> {
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    Ok(candle_core::safetensors::save(&tensors, path)?)
}

fn large(mib: u32) -> Outcome<Vec<(String, Tensor)>> {
    // The largest has 35.3 KiB for each MiB of the file, by which 1 GiB comes to 1 GiB; the smallest has four rows, 1 KiB.
    let (mut seed, growth) = (SEED, (35.3 * f64::from(mib)).powf(1.0 / f64::from(LARGE - 1)));
    let tensor = |place: u32| {
        let rows = (4.0 * growth.powi(place.try_into()?)) as usize;
        let numbers = numbers(rows * ROW, &mut seed);
        Ok((format!("blocks.{place}.weight"), Tensor::from_vec(numbers, (rows, ROW), &Device::Cpu)?))
    };
    (0..LARGE).map(tensor).collect()
}

fn many(tensors: usize) -> Outcome<Vec<(String, Tensor)>> {
    const PARTS: [&str; 10] = [
        "attention.query",
        "attention.key",
        "attention.value",
        "attention.output",
        "mlp.up",
        "mlp.down",
        "norm1",
        "norm2",
        "scale",
        "gate",
    ];
    let names = (0..).flat_map(|layer| {
        PARTS.iter().flat_map(move |part| {
            ["weight", "bias"].map(|kind| format!("model.layers.{layer}.{part}.{kind}"))
        })
    });
    let mut seed = SEED;
    let tensor = |name| {
        let numbers = numbers(1 + usize::try_from(next(&mut seed) % 64)?, &mut seed);
        let len = numbers.len();
        Ok((name, Tensor::from_vec(numbers, len, &Device::Cpu)?))
    };
    names.take(tensors).map(tensor).collect()
}

/// Numbers that do not repeat.
fn numbers(count: usize, seed: &mut u64) -> Vec<f32> {
    let number = |bits| f32::from_bits(0x3f80_0000 | bits) - 1.5;
    (0..count).map(|_| number(u32::try_from(next(seed) >> 41).unwrap_or(0))).collect()
}

/// Xorshift.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn sparse(nbytes: u64, path: &Path) -> Outcome<()> {
    let tensor = |name: String, nbytes: u64| {
        let storage = Storage::from_host(Some(DType::UInt8), Location::cpu(), Hole(nbytes));
        Ok((name, ptser::Tensor::contiguous(storage, DType::UInt8, [usize::try_from(nbytes)?])?))
    };
    let beside =
        |places: std::ops::Range<usize>| places.map(|place| tensor(format!("beside.{place}"), nbytes));
    let probe = tensor(PROBE.to_owned(), PROBE_BYTES.try_into()?);
    let tensors = beside(0..BESIDE).chain([probe]).chain(beside(BESIDE..2 * BESIDE));
    let object = Object::ordered_dict(tensors.collect::<Outcome<Vec<_>>>()?);
    Ok(SaveOptions::new().skip_data(true).durable(false).save(path, &object)?)
}

/// Bytes that are never written.
struct Hole(u64);

impl HostBytes for Hole {
    fn nbytes(&self) -> u64 {
        self.0
    }

    fn with_bytes(&self, _: &mut dyn FnMut(&[u8]) -> ptser::Result<()>) -> ptser::Result<()> {
        Err(ptser::Error::backend("there are no bytes here"))
    }
}
