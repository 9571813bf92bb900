//! Everything that a training loop goes on from, as one value: put together here and saved, or opened and taken apart.

mod keys;

use std::fmt;
use std::path::Path;

use candle_nn::VarMap;
use ptser_core::{Checkpoint, Content, Object, Saveable, Value};

use self::keys::Part;
pub use self::keys::TrainingKeys;
use crate::optim::{StateError, StatefulOptimizer, number};
use crate::options::PtOptions;
use crate::save::{NamedTensors, to_state_dict};
use crate::tensors::PtTensors;
use crate::vars::{VarsError, VarsReport};

/// The state of a training loop, to be saved: by [`SaveOptions`](ptser_core::SaveOptions), or into a
/// [`CheckpointFolder`](ptser_core::CheckpointFolder).
///
/// As with state dicts, its tensors are the model's and the optimizer's, and their bytes are taken when it is saved.
///
/// ```
/// use candle_nn::VarMap;
/// use ptser_candle::{AdamW, AdamWOptions, TrainingState, named_vars};
/// use ptser_core::{CheckpointFolder, Object, SaveOptions};
///
/// let vars = VarMap::new();
/// let optimizer = AdamW::named(named_vars(&vars), AdamWOptions::default())?;
/// let state = TrainingState::new()
///     .model(&vars)?
///     .optimizer(&optimizer)?
///     .epoch(3)
///     .loss(0.25)
///     .with("config", Object::dict([("layers", 4)]));
/// # let folder = std::env::temp_dir().join("ptser-training-state");
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("checkpoint.pt");
/// SaveOptions::new().save(&path, &state)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TrainingState {
    model: Option<Object>,
    optimizer: Option<Object>,
    scheduler: Option<Object>,
    epoch: Option<u64>,
    step: Option<u64>,
    loss: Option<f64>,
    rng: Option<Object>,
    others: Vec<(String, Object)>,
    keys: TrainingKeys,
}

impl TrainingState {
    /// A state without anything in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model's variables, in the order that [`NamedTensors`] gives them.
    ///
    /// # Errors
    /// An element type that PyTorch lacks, and a name that stands there twice.
    pub fn model(mut self, tensors: impl NamedTensors) -> candle_core::Result<Self> {
        self.model = Some(to_state_dict(tensors)?.into());
        Ok(self)
    }

    /// The optimizer's state.
    ///
    /// # Errors
    /// None that a step would not have given.
    pub fn optimizer(mut self, optimizer: &impl StatefulOptimizer) -> candle_core::Result<Self> {
        self.optimizer = Some(optimizer.state_dict()?);
        Ok(self)
    }

    /// The learning-rate schedule's state, such as a dict of its numbers.
    #[must_use]
    pub fn scheduler(mut self, state: impl Into<Object>) -> Self {
        self.scheduler = Some(state.into());
        self
    }

    /// How many epochs are done.
    #[must_use]
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// How many steps are done.
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// The loss.
    #[must_use]
    pub fn loss(mut self, loss: f64) -> Self {
        self.loss = Some(loss);
        self
    }

    /// States of random number generators: a seed, or whatever they go on from.
    #[must_use]
    pub fn rng(mut self, state: impl Into<Object>) -> Self {
        self.rng = Some(state.into());
        self
    }

    /// Anything else under a key of its own; types of your own through `Object::of`, with feature `serde`.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Object>) -> Self {
        self.others.push((key.into(), value.into()));
        self
    }

    /// The keys of the parts, where they are not the customary ones.
    #[must_use]
    pub fn keys(mut self, keys: TrainingKeys) -> Self {
        self.keys = keys;
        self
    }

    /// The dict that is saved: the parts that are there, and then what else was put in.
    pub fn to_object(&self) -> Object {
        let Self { model, optimizer, scheduler, epoch, step, loss, rng, others, keys } = self;
        let listed = |state: &Option<Object>| {
            state.clone().map(|state| if keys.lists { Object::list([state]) } else { state })
        };
        let parts = [
            (&keys.epoch, epoch.map(Object::from)),
            (&keys.step, step.map(Object::from)),
            (&keys.model, model.clone()),
            (&keys.optimizer, listed(optimizer)),
            (&keys.scheduler, listed(scheduler)),
            (&keys.loss, loss.map(Object::from)),
            (&keys.rng, rng.clone()),
        ];
        let parts = parts.into_iter().filter_map(|(key, part)| Some((key, part?)));
        let others = others.iter().map(|(key, other)| (key, other.clone()));
        Object::dict(parts.chain(others).map(|(key, value)| (key.as_str(), value)))
    }
}

impl Saveable for TrainingState {
    fn content(&self) -> ptser_core::Result<Content<'_>> {
        Ok(self.to_object().into())
    }
}

/// A training checkpoint that was opened, whoever saved it: parts are found under the keys that scripts use.
///
/// ```no_run
/// use candle_nn::VarMap;
/// use ptser_candle::{AdamW, AdamWOptions, TrainingCheckpoint, named_vars};
///
/// let vars = VarMap::new();
/// let mut optimizer = AdamW::named(named_vars(&vars), AdamWOptions::default())?;
/// let checkpoint = TrainingCheckpoint::open("checkpoint.pt")?;
/// checkpoint.resume(&vars, &mut optimizer)?;
/// let first = checkpoint.epoch().unwrap_or(0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TrainingCheckpoint {
    checkpoint: Checkpoint,
    keys: Option<TrainingKeys>,
}

impl TrainingCheckpoint {
    /// Opens a checkpoint.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open<P: AsRef<Path>>(path: P) -> ptser_core::Result<Self> {
        Checkpoint::open(path).map(Self::from)
    }

    /// Looks under these keys alone.
    #[must_use]
    pub fn keys(mut self, keys: TrainingKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// All of the checkpoint, whatever else is in it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Sets a map's variables and an optimizer's state to those of the checkpoint, or changes nothing.
    ///
    /// # Errors
    /// Those of [`load_model`](Self::load_model), and of an optimizer's `load_state_dict`; a part that is not there.
    pub fn resume(
        &self,
        vars: &VarMap,
        optimizer: &mut impl StatefulOptimizer,
    ) -> Result<VarsReport, ResumeError> {
        let state = self.optimizer().ok_or_else(|| ResumeError::Missing {
            part: "the optimizer's state",
            expected: Part::Optimizer.expected(self.keys.as_ref()),
        })?;
        let mut report = VarsReport::default();
        optimizer.load_state_dict_if(state, || {
            report = self.load_model(vars)?;
            Ok::<_, ResumeError>(())
        })?;
        Ok(report)
    }

    /// The model's tensors.
    ///
    /// # Errors
    /// A state dict that is not there.
    pub fn model(&self) -> candle_core::Result<PtTensors> {
        let options = match &self.keys {
            Some(keys) => PtOptions::new().state_dict(&keys.model),
            None => PtOptions::new(),
        };
        options.take(&self.checkpoint)
    }

    /// Sets every variable of a map, as [`PtTensors::load_into`] does.
    ///
    /// # Errors
    /// As [`PtTensors::load_into`], and a state dict that is not there.
    pub fn load_model(&self, vars: &VarMap) -> Result<VarsReport, VarsError> {
        self.model()?.load_into(vars)
    }

    /// The optimizer's state, for its `load_state_dict`; of a list of them the only one.
    pub fn optimizer(&self) -> Option<Value<'_>> {
        self.part(Part::Optimizer)
    }

    /// The learning-rate schedule's state; of a list of them the only one.
    pub fn scheduler(&self) -> Option<Value<'_>> {
        self.part(Part::Scheduler)
    }

    /// How many epochs were done, by the count of whoever saved it.
    pub fn epoch(&self) -> Option<u64> {
        self.count(Part::Epoch)
    }

    /// How many steps were done, by the count of whoever saved it.
    pub fn step(&self) -> Option<u64> {
        self.count(Part::Step)
    }

    /// The loss, a number or a tensor of one.
    pub fn loss(&self) -> Option<f64> {
        number(self.part(Part::Loss)?).ok()
    }

    /// The states of random number generators.
    pub fn rng(&self) -> Option<Value<'_>> {
        self.part(Part::Rng)
    }

    /// What is under any key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let root = self.checkpoint.root();
        if root.is_mapping() { root.find(key) } else { None }
    }

    fn part(&self, part: Part) -> Option<Value<'_>> {
        part.find(self.checkpoint.root(), self.keys.as_ref())
    }

    fn count(&self, part: Part) -> Option<u64> {
        let found = self.part(part)?;
        found.as_i64().ok().and_then(|number| u64::try_from(number).ok())
    }
}

impl From<Checkpoint> for TrainingCheckpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, keys: None }
    }
}

/// Why a training loop cannot go on from a checkpoint. The model and the optimizer are as they were.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is no such part.
    Missing {
        /// The part.
        part: &'static str,
        /// The keys that it was looked for under.
        expected: String,
    },
    /// The model's state does not fit.
    Model(VarsError),
    /// The optimizer's state does not fit.
    Optimizer(StateError),
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { part, expected } => write!(
                f,
                "the checkpoint has not {part}: looked for {expected}; name its key with TrainingCheckpoint::keys"
            ),
            Self::Model(error) => write!(f, "model: {error}"),
            Self::Optimizer(error) => write!(f, "optimizer: {error}"),
        }
    }
}

impl std::error::Error for ResumeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing { .. } => None,
            Self::Model(error) => Some(error),
            Self::Optimizer(error) => Some(error),
        }
    }
}

impl From<VarsError> for ResumeError {
    fn from(error: VarsError) -> Self {
        Self::Model(error)
    }
}

impl From<StateError> for ResumeError {
    fn from(error: StateError) -> Self {
        Self::Optimizer(error)
    }
}
