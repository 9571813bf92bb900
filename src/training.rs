//! The samples of docs/training.md, with the lines that make them run.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! use candle_core::{DType, Device};
//! use candle_nn::{Optimizer, VarBuilder, VarMap};
//! use ptser::SaveOptions;
//! use ptser::candle::{AdamW, AdamWOptions, TrainingCheckpoint, TrainingState, named_vars};
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
//! let state = TrainingState::new().model(&vars)?.optimizer(&optimizer)?.epoch(1).step(100);
//! SaveOptions::new().save("checkpoint.pt", &state)?;
//!
//! // Resume: all of it, or nothing where anything does not fit.
//! let checkpoint = TrainingCheckpoint::open("checkpoint.pt")?;
//! checkpoint.resume(&vars, &mut optimizer)?;
//! let first_epoch = checkpoint.epoch().unwrap_or(0);
//! # assert_eq!((first_epoch, optimizer.learning_rate()), (1, 1e-3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! # use candle_core::{DType, Device};
//! # use candle_nn::{VarBuilder, VarMap};
//! # use ptser::candle::{TrainingCheckpoint, TrainingState};
//! # use ptser::{CheckpointFolder, Goal};
//! # let there = tempfile::tempdir()?;
//! # std::env::set_current_dir(&there)?;
//! # let vars = VarMap::new();
//! # candle_nn::linear(4, 2, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
//! let mut folder = CheckpointFolder::create("runs")?.keep_last(3).keep_best(1, Goal::Lowest).in_background()?;
//! for step in 1..=10_u64 {
//!     let loss = 1.0 / step as f64;
//!     folder.save(step, Some(loss), &TrainingState::new().model(&vars)?.step(step).loss(loss))?;
//! }
//! let folder = folder.finish()?;
//! let found = folder.latest()?.ok_or("nothing was saved")?;
//! let checkpoint = TrainingCheckpoint::from(found.checkpoint);
//! # assert_eq!(checkpoint.step(), Some(10));
//! # assert_eq!(folder.list()?.len(), 3);
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
