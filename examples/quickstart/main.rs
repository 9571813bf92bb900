//! A convolutional network that PyTorch trained, run by candle: weights from `model.pt`, images and PyTorch's
//! own logits from `digits.pt`. Run it with `cargo run --release --example quickstart`.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder};
use comfy_table::{CellAlignment, Table, presets};
use owo_colors::OwoColorize;
use ptser::candle::VarBuilderExt;

/// The network of `make.py`, layer by layer under PyTorch's names.
struct Digits {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Digits {
    fn new(vb: &VarBuilder) -> candle_core::Result<Self> {
        let padded = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        Ok(Self {
            conv1: candle_nn::conv2d(1, 16, 3, padded, vb.pp("conv1"))?,
            conv2: candle_nn::conv2d(16, 32, 3, padded, vb.pp("conv2"))?,
            fc1: candle_nn::linear(32 * 4 * 4, 64, vb.pp("fc1"))?,
            fc2: candle_nn::linear(64, 10, vb.pp("fc2"))?,
        })
    }
}

impl Module for Digits {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.conv1.forward(images)?.relu()?;
        let x = self.conv2.forward(&x)?.relu()?.max_pool2d(2)?;
        let x = self.fc1.forward(&x.flatten_from(1)?)?.relu()?;
        self.fc2.forward(&x)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");

    // Weights into a model: a tensor is read when a layer asks for it.
    let model = folder.join("model.pt");
    let network = Digits::new(&VarBuilder::from_pt(&model, DType::F32, &device)?)?;

    // Any other checkpoint: all its tensors by name.
    let digits = ptser::candle::load(folder.join("digits.pt"), &device)?;
    let tensor = |name: &str| digits.get(name).ok_or_else(|| format!("digits.pt has no tensor {name}"));
    let (images, labels, expected) = (tensor("images")?, tensor("labels")?, tensor("logits")?);

    let logits = network.forward(images)?;
    let right = logits.argmax(D::Minus1)?.to_dtype(DType::I64)?.eq(labels)?.to_dtype(DType::F32)?;
    let accuracy = right.mean_all()?.to_scalar::<f32>()? * 100.0;
    let difference = (logits - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;

    // What was in the file, without reading its data again.
    let checkpoint = ptser::Checkpoint::open(&model)?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["tensor", "dtype", "shape", "bytes"]);
    if let Some(bytes) = table.column_mut(3) {
        bytes.set_cell_alignment(CellAlignment::Right);
    }
    for (name, tensor) in checkpoint.tensors() {
        table.add_row([
            name.to_owned(),
            tensor.dtype().to_string(),
            format!("{:?}", tensor.shape()),
            tensor.nbytes().to_string(),
        ]);
    }

    anstream::println!("\n{table}\n");
    let loaded = checkpoint.tensors().count();
    anstream::println!("  {:<32}{}", "tensors loaded", loaded.bold());
    anstream::println!("  {:<32}{}", "images", images.dim(0)?.bold());
    anstream::println!("  {:<32}{}", "accuracy", format!("{accuracy:.1} %").bold());
    anstream::println!("  {:<32}{}", "largest difference from PyTorch", format!("{difference:.1e}").bold());
    if difference >= 1e-5 {
        return Err(format!("the logits differ from PyTorch's by {difference:e}, more than 1e-5").into());
    }
    anstream::println!("\n  {} candle computes what PyTorch computed\n", "✓".green().bold());
    Ok(())
}
