//! SHA-256 of tensors' values, each view once, with a progress bar.

use std::collections::HashMap;

use ptser::{ByteOrder, Checkpoint, Tensor, TensorKind};
use sha2::{Digest, Sha256};

use crate::ls::rows;
use crate::output::explain;
use crate::progress::{self, Progress};
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
    let mut progress = Progress::new("hashing", total(checkpoint));
    let mut known: HashMap<View<'_>, Hash> = HashMap::new();
    rows(checkpoint)
        .map(|entry| {
            let Some(tensor) = entry.tensor().filter(|tensor| has_bytes(tensor)) else { return Hash::Absent };
            let view = View::of(tensor);
            let hash = match view.as_ref().and_then(|view| known.get(view)) {
                Some(hash) => hash.clone(),
                None => of(tensor).map_or_else(|error| Hash::Failed(explain(&error)), Hash::Known),
            };
            progress.add(progress::nbytes(tensor.nbytes()));
            if let Some(view) = view {
                known.entry(view).or_insert_with(|| hash.clone());
            }
            hash
        })
        .collect()
}

/// Of the logical values in C order, little-endian.
fn of(tensor: &Tensor) -> ptser::Result<String> {
    let mut hasher = Sha256::new();
    tensor.for_each_piece(ByteOrder::Little, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
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
        .fold(0, |sum, tensor| sum.saturating_add(progress::nbytes(tensor.nbytes())))
}
