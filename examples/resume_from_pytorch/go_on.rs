//! The training loop: from where a checkpoint stands, or from scratch where there is none.

#[path = "../digits/network.rs"]
mod network;

use std::error::Error;
use std::path::Path;

use candle_core::DType;
use candle_nn::Optimizer;
use network::{Digits, Network, parameters};
use ptser::SaveOptions;
use ptser::candle::{AdamW, AdamWOptions, TrainingCheckpoint, TrainingState};

/// Does so many steps more, and saves; gives the number of the first and the loss of each.
pub(crate) fn go_on(path: &Path, steps: usize) -> Result<(usize, Vec<f64>), Box<dyn Error>> {
    // In double precision, so that the losses of both programs can be compared to the last digits.
    let digits = Digits::load(DType::F64)?;
    let (network, vars) = Network::new(15, DType::F64)?;
    let options = AdamWOptions { lr: 3e-3, ..AdamWOptions::default() };
    let mut optimizer = AdamW::named(parameters(&vars), options)?;
    let mut first = 0;
    if path.exists() {
        let checkpoint = TrainingCheckpoint::open(path)?;
        checkpoint.resume(&vars, &mut optimizer)?;
        first = checkpoint.step().ok_or("the checkpoint has no step")?.try_into()?;
    }
    let mut losses = Vec::new();
    for step in first..first + steps {
        let (loss, _) = network.loss(&digits.batch(step)?)?;
        optimizer.backward_step(&loss)?;
        losses.push(loss.to_scalar::<f64>()?);
    }
    let state = TrainingState::new()
        .model(parameters(&vars))?
        .optimizer(&optimizer)?
        .step(u64::try_from(first + steps)?)
        .loss(*losses.last().ok_or("no step was done")?);
    SaveOptions::new().save(path, &state)?;
    Ok((first, losses))
}
