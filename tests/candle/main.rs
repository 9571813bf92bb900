//! Checkpoints as candle tensors: values, sharing, `VarBuilder`s, element types, and their errors.

mod dtypes;
mod fixtures;
mod loading;
mod sharing;
mod var_builder;
