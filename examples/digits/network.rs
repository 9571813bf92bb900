//! What the training examples share: the digits, a small convolutional network, and the order of its batches.

use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder, VarMap, loss};
use ptser::candle::named_vars_as;

/// Images to train with; the others are held back. A prime number, see [`Digits::batch`].
pub(crate) const TRAINED: usize = 1597;
const BATCH: usize = 64;
pub(crate) const STEPS_PER_EPOCH: usize = TRAINED.div_ceil(BATCH);

/// The parameters in the order of the PyTorch module, which numbers them so in the optimizer's state.
const PARAMETERS: [&str; 8] = [
    "conv1.weight",
    "conv1.bias",
    "conv2.weight",
    "conv2.bias",
    "fc1.weight",
    "fc1.bias",
    "fc2.weight",
    "fc2.bias",
];

/// The images, N x 1 x 8 x 8 and scaled to 0..1, and their labels.
pub(crate) struct Digits {
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
}

impl Digits {
    pub(crate) fn load(dtype: DType) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/digits.pt");
        let mut tensors = ptser::candle::load(path, &Device::Cpu)?.into_map();
        let mut take =
            |name: &str| tensors.remove(name).ok_or_else(|| candle_core::Error::msg(name.to_owned()));
        let images = (take("images")?.to_dtype(dtype)? / 16.0)?.unsqueeze(1)?;
        Ok(Self { images, labels: take("labels")?.to_dtype(DType::U32)? })
    }

    /// The batch of a step. Each epoch goes through the images in an order of its own: in steps of another length,
    /// which meet each image once, as their number is prime.
    pub(crate) fn batch(&self, step: usize) -> Result<(Tensor, Tensor)> {
        let (epoch, place) = (step / STEPS_PER_EPOCH, step % STEPS_PER_EPOCH * BATCH);
        let stride = 577 + 2 * epoch;
        let order: Vec<u32> =
            (place..TRAINED.min(place + BATCH)).map(|n| (n * stride % TRAINED) as u32).collect();
        let order = Tensor::new(order, &Device::Cpu)?;
        Ok((self.images.index_select(&order, 0)?, self.labels.index_select(&order, 0)?))
    }
}

/// Two convolutions and two linear layers, under PyTorch's names.
pub(crate) struct Network {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Network {
    /// The network and its parameters, which are the same for the same seed.
    pub(crate) fn new(seed: u64, dtype: DType) -> Result<(Self, VarMap)> {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, dtype, &Device::Cpu);
        let padded = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let network = Self {
            conv1: candle_nn::conv2d(1, 8, 3, padded, vb.pp("conv1"))?,
            conv2: candle_nn::conv2d(8, 16, 3, padded, vb.pp("conv2"))?,
            fc1: candle_nn::linear(16 * 4 * 4, 32, vb.pp("fc1"))?,
            fc2: candle_nn::linear(32, 10, vb.pp("fc2"))?,
        };
        // candle's own random numbers on the CPU have no seed.
        let mut state = seed | 1;
        for (name, var) in parameters(&vars) {
            let inputs: usize = match name.as_str() {
                "conv1.weight" | "conv1.bias" => 9,
                "conv2.weight" | "conv2.bias" => 8 * 9,
                "fc1.weight" | "fc1.bias" => 16 * 4 * 4,
                _ => 32,
            };
            let bound = 1.0 / (inputs as f64).sqrt();
            let numbers: Vec<f64> =
                (0..var.elem_count()).map(|_| (2.0 * uniform(&mut state) - 1.0) * bound).collect();
            var.set(&Tensor::from_vec(numbers, var.shape(), &Device::Cpu)?.to_dtype(dtype)?)?;
        }
        Ok((network, vars))
    }

    /// The mean loss, and how many of the images are recognised.
    pub(crate) fn loss(&self, (images, labels): &(Tensor, Tensor)) -> Result<(Tensor, usize)> {
        let logits = self.forward(images)?;
        let right =
            logits.argmax(D::Minus1)?.eq(labels)?.to_dtype(DType::U32)?.sum_all()?.to_scalar::<u32>()?;
        Ok((loss::cross_entropy(&logits, labels)?, right as usize))
    }
}

impl Module for Network {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(images)?.relu()?;
        // Not the largest: candle 0.11 multiplies its gradient by the share of the window that is largest.
        let x = self.conv2.forward(&x)?.relu()?.avg_pool2d(2)?;
        let x = self.fc1.forward(&x.flatten_from(1)?)?.relu()?;
        self.fc2.forward(&x)
    }
}

/// The parameters by name, in the order of the PyTorch module.
pub(crate) fn parameters(vars: &VarMap) -> Vec<(String, Var)> {
    named_vars_as(vars, PARAMETERS)
}

/// A number from 0 to 1 (xorshift).
fn uniform(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}
