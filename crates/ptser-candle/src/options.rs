//! How a checkpoint becomes candle tensors.

use std::path::Path;
use std::sync::Arc;

use candle_core::Result;
use ptser_core::{Checkpoint, LoadOptions, StateDict};

use crate::dtype::Conversions;
use crate::error::wrap;
use crate::tensors::PtTensors;

/// How a checkpoint becomes candle tensors.
///
/// ```no_run
/// use ptser_candle::PtOptions;
///
/// let tensors = PtOptions::new().state_dict("ema").complex_as_real(true).open("model.pt")?;
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct PtOptions {
    load: LoadOptions,
    state_dict: Option<String>,
    only: Option<Arc<Only>>,
    pub(crate) conversions: Conversions,
}

/// Picks tensors by name.
type Only = dyn Fn(&str) -> bool + Send + Sync;

impl PtOptions {
    /// The defaults: weights only, the state dict found by its customary keys, no complex numbers.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the file is opened: its policy for globals, its limits, a mapping.
    #[must_use]
    pub fn load_options(mut self, load: LoadOptions) -> Self {
        self.load = load;
        self
    }

    /// Takes only the tensors whose names `wanted` picks, such as all but those of a type that candle lacks.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Arc::new(wanted));
        self
    }

    /// The key of the state dict, or a path of keys joined by dots; empty for the root. By default it is
    /// looked for.
    #[must_use]
    pub fn state_dict(mut self, key: impl Into<String>) -> Self {
        self.state_dict = Some(key.into());
        self
    }

    /// Takes complex tensors as real ones with a last axis of two, as `torch.view_as_real` does. candle has no
    /// complex numbers; without this they are an error.
    #[must_use]
    pub fn complex_as_real(mut self, complex_as_real: bool) -> Self {
        self.conversions.complex_as_real = complex_as_real;
        self
    }

    /// Keeps views as they are on GPUs too. By default a `VarBuilder` copies those that are neither contiguous
    /// nor a whole transpose there, since candle's CUDA matmul refuses them.
    #[must_use]
    pub fn keep_views(mut self, keep_views: bool) -> Self {
        self.conversions.keep_views = keep_views;
        self
    }

    /// Opens a checkpoint; no tensor data is read.
    ///
    /// # Errors
    /// Those of [`LoadOptions::open`], and a state dict that is not there.
    pub fn open<P: AsRef<Path>>(&self, path: P) -> Result<PtTensors> {
        let checkpoint = self.load.open(path).map_err(wrap)?;
        self.take(&checkpoint)
    }

    /// Opens several checkpoints as one, such as the shards of a large model.
    ///
    /// # Errors
    /// As [`open`](Self::open), and a name that stands in two of them.
    pub fn open_all<P: AsRef<Path>>(&self, paths: &[P]) -> Result<PtTensors> {
        let mut all = StateDict::default();
        for path in paths {
            let checkpoint = self.load.open(path).map_err(wrap)?;
            for (name, tensor) in self.find(&checkpoint)?.iter() {
                if all.insert(name, tensor.clone()).is_some() {
                    return Err(crate::error::about(name, "it stands in two of the files").with_path(path));
                }
            }
        }
        Ok(PtTensors::new(all, self))
    }

    /// Opens a checkpoint in memory, which is not copied.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(&self, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<PtTensors> {
        let checkpoint = self.load.from_bytes(bytes).map_err(wrap)?;
        self.take(&checkpoint)
    }

    /// Takes the state dict of a checkpoint that is open already.
    ///
    /// # Errors
    /// A state dict that is not there.
    pub fn take(&self, checkpoint: &Checkpoint) -> Result<PtTensors> {
        Ok(PtTensors::new(self.find(checkpoint)?, self))
    }

    fn find(&self, checkpoint: &Checkpoint) -> Result<StateDict> {
        let found = match &self.state_dict {
            Some(key) => checkpoint.state_dict_at(key),
            None => checkpoint.state_dict(),
        }
        .map_err(wrap)?;
        let Some(only) = &self.only else { return Ok(found) };
        Ok(found.iter().filter(|(name, _)| only(name)).map(|(name, tensor)| (name, tensor.clone())).collect())
    }
}

impl std::fmt::Debug for PtOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { load, state_dict, only, conversions } = self;
        let mut shown = f.debug_struct("PtOptions");
        shown.field("load", load).field("state_dict", state_dict).field("conversions", conversions);
        shown.field("only", &only.is_some()).finish()
    }
}
