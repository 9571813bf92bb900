//! Checkpoints as candle tensors: values, sharing, `VarBuilder`s, element types, and their errors.

#[cfg(feature = "candle-cuda")]
#[cfg(test)]
mod cuda;
#[cfg(test)]
mod dtypes;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod optim;
#[cfg(test)]
mod optim_hostile;
#[cfg(test)]
mod optim_pytorch;
#[cfg(test)]
mod optim_sizes;
#[cfg(test)]
mod save;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod training;
#[cfg(test)]
mod var_builder;
#[cfg(test)]
mod vars;
