//! SHA-256 of tensors' values, each view once, with a progress bar where that takes long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ptser::{Checkpoint, Tensor, TensorKind};
use sha2::{Digest, Sha256};

use crate::ls::rows;
use crate::tally::View;

/// What became of an entry's hash.
#[derive(Clone)]
pub(crate) enum Hash {
    Known(String),
    /// The tensor has no bytes of its own.
    Absent,
    /// The values cannot be read.
    Failed(String),
}

/// The hash of each of [`rows`](crate::ls::rows) in order.
pub(crate) fn all(checkpoint: &Checkpoint) -> Vec<Hash> {
    let mut progress = Progress::new(total(checkpoint));
    let mut known: HashMap<View<'_>, Hash> = HashMap::new();
    rows(checkpoint)
        .map(|entry| {
            let Some(tensor) = entry.tensor().filter(|tensor| has_bytes(tensor)) else { return Hash::Absent };
            let view = View::of(tensor);
            let hash = match view.as_ref().and_then(|view| known.get(view)) {
                Some(hash) => hash.clone(),
                None => of(tensor).map_or_else(|error| Hash::Failed(error.to_string()), Hash::Known),
            };
            progress.add(tensor.nbytes());
            if let Some(view) = view {
                known.entry(view).or_insert_with(|| hash.clone());
            }
            hash
        })
        .collect()
}

/// Of the logical values in C order, little-endian.
fn of(tensor: &Tensor) -> ptser::Result<String> {
    let hash = Sha256::digest(tensor.to_contiguous()?);
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether the values lie in a storage: those of meta and sparse tensors and of wrapper subclasses do not.
fn has_bytes(tensor: &Tensor) -> bool {
    let strided = matches!(tensor.kind(), TensorKind::Strided | TensorKind::Quantized(_));
    strided && (tensor.storage().is_some() || tensor.nbytes() == 0)
}

fn total(checkpoint: &Checkpoint) -> u64 {
    rows(checkpoint)
        .filter_map(|entry| entry.tensor())
        .filter(|tensor| has_bytes(tensor))
        .fold(0, |sum, tensor| sum.saturating_add(nbytes(tensor.nbytes())))
}

fn nbytes(nbytes: usize) -> u64 {
    u64::try_from(nbytes).unwrap_or(u64::MAX)
}

/// A bar on standard error, if that is a terminal, once a second has passed.
struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: bool,
}

const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    fn new(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(
            "hashing {bar:30} {decimal_bytes} of {decimal_total_bytes}, {eta} left",
        ) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), shown: false }
    }

    fn add(&mut self, bytes: usize) {
        self.bar.inc(nbytes(bytes));
        let more = self.bar.length().is_some_and(|length| self.bar.position() < length);
        if more && !self.shown && self.started.elapsed() > PATIENCE {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
