//! Trains a network that recognises digits, from scratch, with a checkpoint after every epoch:
//! `cargo run --release --example train`. Cut it off with `-- --kill-after 3` and go on with `-- --resume`: it ends with
//! exactly the losses of a run that was not.
//!
//! `--epochs N` (8) and `--folder PATH` (`target/train`) are what they say. In the folder are the checkpoints of the last
//! two epochs and of the best, `losses.txt` with the loss of every step, and `losses.svg`, a plot of them.

#[path = "digits/network.rs"]
mod network;

use std::error::Error;
use std::path::{Path, PathBuf};

use candle_core::DType;
use candle_nn::Optimizer;
use indicatif::{ProgressBar, ProgressStyle};
use network::{Digits, Network, STEPS_PER_EPOCH, TRAINED, parameters};
use owo_colors::OwoColorize;
use plotters::prelude::*;
use ptser::candle::{AdamW, AdamWOptions, TrainingCheckpoint, TrainingState};
use ptser::{CheckpointFolder, Goal, Object};

const LR: f64 = 1e-2;

struct Arguments {
    epochs: usize,
    folder: PathBuf,
    kill_after: Option<usize>,
    resume: bool,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/train");
        let mut arguments = Self { epochs: 8, folder, kill_after: None, resume: false };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--epochs" => arguments.epochs = value()?.parse()?,
                "--folder" => arguments.folder = value()?.into(),
                "--kill-after" => arguments.kill_after = Some(value()?.parse()?),
                "--resume" => arguments.resume = true,
                other => {
                    return Err(format!(
                        "{other}: expected --epochs N, --folder PATH, --kill-after N, --resume"
                    )
                    .into());
                }
            }
        }
        Ok(arguments)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { epochs, folder, kill_after, resume } = Arguments::parse()?;
    let steps = epochs * STEPS_PER_EPOCH;
    let digits = Digits::load(DType::F32)?;
    let count = digits.labels.dim(0)? - TRAINED;
    let held_back = (digits.images.narrow(0, TRAINED, count)?, digits.labels.narrow(0, TRAINED, count)?);
    let (network, vars) = Network::new(15, DType::F32)?;
    let mut optimizer = AdamW::named(parameters(&vars), AdamWOptions { lr: LR, ..AdamWOptions::default() })?;
    let mut losses: Vec<f64> = Vec::new();

    let checkpoints = CheckpointFolder::create(&folder)?.keep_last(2).keep_best(1, Goal::Lowest);
    if !resume {
        // A run of its own: what an earlier one left is not of it.
        checkpoints.list()?.iter().try_for_each(|saved| std::fs::remove_file(&saved.path))?;
    } else if let Some(found) = checkpoints.latest()? {
        for (saved, error) in &found.skipped {
            anstream::println!("  {} {}: {error}", "damaged".red(), saved.path.display());
        }
        let checkpoint = TrainingCheckpoint::from(found.checkpoint);
        checkpoint.resume(&vars, &mut optimizer)?;
        let saved = checkpoint.get("losses").ok_or("the checkpoint has no losses")?;
        losses = saved.items().map(|loss| loss.as_f64()).collect::<Result<_, _>>()?;
        anstream::println!("  goes on from {}", found.saved.path.display().bold());
    }
    let mut checkpoints = checkpoints.in_background()?;

    let style = ProgressStyle::with_template("  {prefix} {bar:32.green} {pos:>2}/{len} {msg}")?;
    for epoch in losses.len() / STEPS_PER_EPOCH..epochs {
        let bar = ProgressBar::new(STEPS_PER_EPOCH as u64).with_style(style.clone());
        bar.set_prefix(format!("epoch {:>2}", epoch + 1));
        let (mut right, mut seen) = (0, 0);
        for step in epoch * STEPS_PER_EPOCH..(epoch + 1) * STEPS_PER_EPOCH {
            // The rate falls to zero as a cosine does.
            let done = step as f64 / steps as f64;
            optimizer.set_learning_rate(LR * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()));
            let batch = digits.batch(step)?;
            let (loss, recognised) = network.loss(&batch)?;
            optimizer.backward_step(&loss)?;
            losses.push(loss.to_scalar::<f32>()?.into());
            (right, seen) = (right + recognised, seen + batch.1.dim(0)?);
            let loss = losses.last().copied().unwrap_or_default();
            bar.set_message(format!("loss {loss:.4}  accuracy {:.1} %", percent(right, seen)));
            bar.inc(1);
            if kill_after == Some(epoch) && step % STEPS_PER_EPOCH == STEPS_PER_EPOCH / 2 {
                bar.abandon();
                anstream::println!("\n  {} in the middle of epoch {}\n", "killed".red(), epoch + 1);
                // Nothing is flushed and nobody is waited for.
                std::process::exit(137);
            }
        }
        let (loss, recognised) = network.loss(&held_back)?;
        let (loss, accuracy) = (loss.to_scalar::<f32>()?, percent(recognised, count));
        bar.finish_and_clear();
        let mean = losses.iter().rev().take(STEPS_PER_EPOCH).sum::<f64>() / STEPS_PER_EPOCH as f64;
        let accuracy = format!("{accuracy:.1} %");
        anstream::println!(
            "  epoch {:>2}   loss {mean:.4}   held back: loss {loss:.4}, accuracy {}",
            epoch + 1,
            accuracy.bold()
        );

        let state = TrainingState::new()
            .model(parameters(&vars))?
            .optimizer(&optimizer)?
            .epoch(epoch as u64 + 1)
            .step(losses.len() as u64)
            .loss(loss.into())
            .scheduler(Object::dict([("lr", Object::from(LR)), ("steps", steps.into())]))
            .with("losses", losses.clone());
        checkpoints.save(epoch as u64 + 1, Some(loss.into()), &state)?;
    }
    let checkpoints = checkpoints.finish()?;

    let lines: Vec<String> = losses.iter().map(f64::to_string).collect();
    std::fs::write(folder.join("losses.txt"), lines.join("\n"))?;
    let plot = folder.join("losses.svg");
    draw(&plot, &losses)?;
    let best = checkpoints.best(Goal::Lowest)?.ok_or("nothing was saved")?;
    anstream::println!("\n  {:<10}{}", "best", best.saved.path.display().bold());
    anstream::println!("  {:<10}{}\n", "losses", plot.display().bold());
    Ok(())
}

fn percent(right: usize, seen: usize) -> f64 {
    100.0 * right as f64 / seen.max(1) as f64
}

/// Draws the loss of every step, and the mean of each epoch.
fn draw(path: &Path, losses: &[f64]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (800, 450)).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = losses.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let epochs = losses.len() as f64 / STEPS_PER_EPOCH as f64;
    let mut chart = ChartBuilder::on(&root)
        .margin(20)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..epochs, 0.0..highest)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("epoch").y_desc("loss").light_line_style(TRANSPARENT);
    mesh.label_style(("sans-serif", 14)).axis_desc_style(("sans-serif", 16)).draw()?;
    let place = |step: usize| step as f64 / STEPS_PER_EPOCH as f64;
    let each = losses.iter().enumerate().map(|(step, loss)| (place(step), *loss));
    chart.draw_series(LineSeries::new(each, BLUE.mix(0.3)))?;
    let means = losses
        .chunks(STEPS_PER_EPOCH)
        .enumerate()
        .map(|(epoch, losses)| (epoch as f64 + 0.5, losses.iter().sum::<f64>() / losses.len() as f64));
    chart.draw_series(LineSeries::new(means, BLUE.stroke_width(2)))?;
    root.present()?;
    Ok(())
}
