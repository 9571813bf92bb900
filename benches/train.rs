//! What training costs beside the training: a step of AdamW compared with candle's, and a checkpoint in the background
//! compared with one copy of what is in it.
//!
//! ```text
//! cargo bench --bench train -- DIR      # 1 GiB of disk, which is left as it was
//! ```
//!
//! 92 MiB of parameters in 90 tensors of 1 KiB to 9 MiB. Subjects take turns, and the table shows medians. Without a
//! folder only the steps are measured.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use candle_nn::Optimizer;
use comfy_table::{CellAlignment, Table, presets};
use ptser::candle::{AdamW, AdamWOptions, TrainingState};
use ptser::{CheckpointFolder, Object};

type Outcome<T> = Result<T, Box<dyn Error>>;

const RUNS: usize = 15;
const TENSORS: usize = 90;
/// The largest tensor; the smallest has 1 KiB, and the sizes are spread evenly on a logarithmic scale.
const LARGEST: f64 = (9 << 20) as f64;

fn main() -> Outcome<()> {
    // cargo bench adds --bench; cargo test runs benches too, without it.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("train: skipped, not run by cargo bench");
        return Ok(());
    }
    let folder = std::env::args().skip(1).find(|arg| arg != "--bench");
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["", "ms", "ratio"]);
    for column in 1..3 {
        table.column_mut(column).ok_or("no column")?.set_cell_alignment(CellAlignment::Right);
    }
    steps(&mut table)?;
    if let Some(folder) = folder {
        saves(&mut table, Path::new(&folder))?;
    }
    println!("{table}");
    Ok(())
}

/// Parameters with names, all of them the same number.
fn parameters() -> Outcome<Vec<(String, Var)>> {
    let one = |place: usize| {
        let size = 256.0 * (LARGEST / 1024.0).powf(place as f64 / (TENSORS - 1) as f64);
        let var = Var::from_tensor(&Tensor::full(0.5_f32, size as usize, &Device::Cpu)?)?;
        Ok((format!("layers.{place}.weight"), var))
    };
    (0..TENSORS).map(one).collect()
}

/// Gradients, as a backward pass leaves them.
fn gradients(vars: &[(String, Var)]) -> Outcome<GradStore> {
    let mut gradients = Tensor::new(0.0_f32, &Device::Cpu)?.backward()?;
    for (_, var) in vars {
        gradients.insert(var, Tensor::randn(0.0_f32, 1.0, var.shape(), &Device::Cpu)?);
    }
    Ok(gradients)
}

fn milliseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, milliseconds)
}

fn timed<R>(times: &mut Vec<Duration>, run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let done = run();
    times.push(start.elapsed());
    done
}

fn row(table: &mut Table, name: &str, ms: f64, than: f64) {
    table.add_row([name.to_owned(), format!("{ms:.2}"), format!("{:.2}", ms / than)]);
}

fn steps(table: &mut Table) -> Outcome<()> {
    let (vars, others) = (parameters()?, parameters()?);
    let (grads, other_grads) = (gradients(&vars)?, gradients(&others)?);
    let mut ours = AdamW::named(vars, AdamWOptions::default())?;
    let others = others.into_iter().map(|(_, var)| var).collect();
    let mut candles = candle_nn::AdamW::new(others, candle_nn::ParamsAdamW::default())?;
    let (mut our_times, mut candles_times) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        timed(&mut our_times, || ours.step(&grads))?;
        timed(&mut candles_times, || candles.step(&other_grads))?;
    }
    let (ours, candles) = (median(our_times), median(candles_times));
    row(table, "step: candle's AdamW", candles, candles);
    row(table, "step: ptser's AdamW", ours, candles);
    Ok(())
}

fn saves(table: &mut Table, folder: &Path) -> Outcome<()> {
    let vars = parameters()?;
    let grads = gradients(&vars)?;
    let mut optimizer = AdamW::named(vars.clone(), AdamWOptions::default())?;
    optimizer.step(&grads)?;
    let there = folder.join("ptser-bench-train");
    let mut checkpoints = CheckpointFolder::create(&there)?.keep_last(1).in_background()?;
    let state = |optimizer: &AdamW| -> Outcome<Object> {
        Ok(TrainingState::new().model(vars.clone())?.optimizer(optimizer)?.to_object())
    };

    // Each parameter and both its moments.
    let sizes = vars.iter().flat_map(|(_, var)| [4 * var.elem_count(); 3]);
    let from: Vec<Vec<u8>> = sizes.map(|size| vec![1; size]).collect();
    let mut fresh_times = Vec::new();
    let mut to = timed(&mut fresh_times, || from.clone());
    let (mut copy_times, mut save_times, mut wait_times) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..RUNS {
        timed(&mut copy_times, || {
            for (to, from) in to.iter_mut().zip(std::hint::black_box(&from)) {
                to.copy_from_slice(from);
            }
        });
        std::hint::black_box(&mut to);
        timed(&mut save_times, || -> Outcome<()> {
            Ok(checkpoints.save(step as u64, None, &state(&optimizer)?)?)
        })?;
        timed(&mut wait_times, || checkpoints.wait())?;
        optimizer.step(&grads)?;
    }
    checkpoints.finish()?;
    let copy = median(copy_times);
    row(table, "one copy of parameters and moments", copy, copy);
    row(table, "one copy into fresh memory", fresh_times.first().map_or(0.0, milliseconds), copy);
    row(table, "save in the background: first call", save_times.first().map_or(0.0, milliseconds), copy);
    row(table, "save in the background: later calls", median(save_times.split_off(1)), copy);
    row(table, "the saving itself, meanwhile", median(wait_times), copy);
    std::fs::remove_dir_all(there)?;
    Ok(())
}
