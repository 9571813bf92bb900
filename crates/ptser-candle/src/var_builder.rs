//! `VarBuilder`s over checkpoints, the way candle models take their weights.

use std::path::Path;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use crate::options::PtOptions;
use crate::tensors::PtTensors;

impl SimpleBackend for PtTensors {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensor = self.get_shaped(&shape, name, dtype, device)?;
        self.for_kernels(name, tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.get_as(name, dtype, device)?;
        self.for_kernels(name, tensor)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

/// Opens PyTorch checkpoints as candle's `VarBuilder`. A tensor is read when the model asks for it.
///
/// ```no_run
/// use candle_core::{DType, Device};
/// use candle_nn::VarBuilder;
/// use ptser_candle::VarBuilderExt;
///
/// let vb = VarBuilder::from_pt("model.pt", DType::F32, &Device::Cpu)?;
/// let fc = candle_nn::linear(512, 10, vb.pp("fc"))?;
/// // A file of DataParallel, whose names begin with `module.`:
/// let vb = VarBuilder::from_pt("parallel.pt", DType::F32, &Device::Cpu)?.rename_f(|name| format!("module.{name}"));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait VarBuilderExt: Sized {
    /// Opens a checkpoint. The state dict is found at the root or under a customary key.
    ///
    /// # Errors
    /// Those of opening the file.
    fn from_pt<P: AsRef<Path>>(path: P, dtype: DType, device: &Device) -> Result<Self>;

    /// Opens a checkpoint as the options say.
    ///
    /// # Errors
    /// Those of opening the file, and a state dict that is not there.
    fn from_pt_with<P: AsRef<Path>>(
        options: &PtOptions,
        path: P,
        dtype: DType,
        device: &Device,
    ) -> Result<Self>;

    /// Opens several checkpoints as one, such as the shards of a large model.
    ///
    /// # Errors
    /// As [`from_pt`](Self::from_pt), and a name that stands in two of them.
    fn from_pts<P: AsRef<Path>>(paths: &[P], dtype: DType, device: &Device) -> Result<Self>;

    /// Opens a checkpoint in memory.
    ///
    /// # Errors
    /// As [`from_pt`](Self::from_pt).
    fn from_pt_bytes(
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        dtype: DType,
        device: &Device,
    ) -> Result<Self>;

    /// Takes tensors that are open already; keep a clone of them to ask for the report.
    fn from_pt_tensors(tensors: PtTensors, dtype: DType, device: &Device) -> Self;
}

impl VarBuilderExt for VarBuilder<'_> {
    fn from_pt<P: AsRef<Path>>(path: P, dtype: DType, device: &Device) -> Result<Self> {
        Self::from_pt_with(&PtOptions::new(), path, dtype, device)
    }

    fn from_pt_with<P: AsRef<Path>>(
        options: &PtOptions,
        path: P,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self::from_pt_tensors(options.open(path)?, dtype, device))
    }

    fn from_pts<P: AsRef<Path>>(paths: &[P], dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self::from_pt_tensors(PtOptions::new().open_all(paths)?, dtype, device))
    }

    fn from_pt_bytes(
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self::from_pt_tensors(PtOptions::new().from_bytes(bytes)?, dtype, device))
    }

    fn from_pt_tensors(tensors: PtTensors, dtype: DType, device: &Device) -> Self {
        Self::from_backend(Box::new(tensors), dtype, device.clone())
    }
}
