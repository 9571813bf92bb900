//! The samples of docs/training.md, with the lines that make them run.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! use candle_core::{DType, Device};
//! use candle_nn::{Optimizer, VarBuilder, VarMap};
//! use ptser::candle::{AdamW, AdamWOptions, named_vars, to_state_dict};
//! use ptser::{Checkpoint, Object, SaveOptions};
//!
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let model = candle_nn::linear(4, 2, vb.pp("fc"))?;
//! let mut optimizer = AdamW::named(named_vars(&vars), AdamWOptions { lr: 1e-3, ..AdamWOptions::default() })?;
//!
//! // Train.
//! let loss = model.weight().sqr()?.mean_all()?;
//! optimizer.backward_step(&loss)?;
//!
//! // Save.
//! let checkpoint = Object::dict([
//!     ("epoch", Object::from(1)),
//!     ("model_state_dict", to_state_dict(&vars)?.into()),
//!     ("optimizer_state_dict", optimizer.state_dict()?),
//! ]);
//! SaveOptions::new().save("checkpoint.pt", &checkpoint)?;
//!
//! // Resume: the model first, the optimizer then.
//! let checkpoint = Checkpoint::open("checkpoint.pt")?;
//! let weights = ptser::candle::load("checkpoint.pt", &Device::Cpu)?;
//! for (name, var) in named_vars(&vars) {
//!     var.set(weights.get(&name).ok_or("a weight is missing")?)?;
//! }
//! optimizer.load_state_dict(checkpoint.root().get("optimizer_state_dict")?)?;
//! # assert_eq!(optimizer.learning_rate(), 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! # use candle_nn::VarMap;
//! # use ptser::Checkpoint;
//! # use ptser::candle::{AdamW, AdamWOptions, named_vars_as};
//! # let folder = tempfile::tempdir()?;
//! # let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/optim");
//! # std::fs::copy(fixtures.join("adamw_unnamed.pt"), folder.path().join("checkpoint.pt"))?;
//! # std::env::set_current_dir(&folder)?;
//! # let vars = VarMap::new();
//! let checkpoint = Checkpoint::open("checkpoint.pt")?;
//! let vars = named_vars_as(&vars, checkpoint.state_dict()?.names());
//! let mut optimizer = AdamW::named(vars, AdamWOptions::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! # use candle_nn::VarMap;
//! # use ptser::candle::{AdamW, AdamWOptions, ParamGroup, named_vars};
//! # let vars = VarMap::new();
//! let (weights, others): (Vec<_>, Vec<_>) =
//!     named_vars(&vars).into_iter().partition(|(_, var)| var.rank() > 1);
//! let groups = [ParamGroup::named(weights), ParamGroup::named(others).weight_decay(0.0)];
//! let mut optimizer = AdamW::with_groups(groups, AdamWOptions::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
