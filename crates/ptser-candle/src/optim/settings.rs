//! The settings of a parameter group: PyTorch's keys, their order, their defaults, what they may be.

use ptser_core::{DType, Object, Tensor, Value, ValueKind};

/// Whose arithmetic and whose keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Sgd,
    Adam,
    AdamW,
}

impl Rule {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sgd => "SGD",
            Self::Adam => "Adam",
            Self::AdamW => "AdamW",
        }
    }

    /// The keys of a group, in the order in which torch 2.15 writes them.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &[
                "lr",
                "momentum",
                "dampening",
                "weight_decay",
                "nesterov",
                "maximize",
                "foreach",
                "differentiable",
                "fused",
            ],
            Self::Adam | Self::AdamW => &[
                "lr",
                "betas",
                "eps",
                "weight_decay",
                "amsgrad",
                "maximize",
                "foreach",
                "capturable",
                "differentiable",
                "fused",
                "decoupled_weight_decay",
            ],
        }
    }

    /// The keys that every version of PyTorch wrote.
    pub(super) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &["lr", "momentum", "dampening", "weight_decay"],
            Self::Adam | Self::AdamW => &["lr", "betas", "eps", "weight_decay"],
        }
    }

    /// Whether the parameter itself decays, and not its gradient.
    pub(super) fn decouples(self) -> bool {
        self == Self::AdamW
    }
}

/// Every setting of every optimizer; each uses its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) lr: f64,
    pub(super) momentum: f64,
    pub(super) dampening: f64,
    pub(super) weight_decay: f64,
    pub(super) nesterov: bool,
    pub(super) betas: (f64, f64),
    pub(super) eps: f64,
    pub(super) amsgrad: bool,
    pub(super) maximize: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            betas: (0.9, 0.999),
            eps: 1e-8,
            amsgrad: false,
            maximize: false,
        }
    }
}

impl Settings {
    /// Takes over one setting of another group.
    pub(super) fn take(&mut self, key: &str, from: &Self) {
        match key {
            "lr" => self.lr = from.lr,
            "momentum" => self.momentum = from.momentum,
            "dampening" => self.dampening = from.dampening,
            "weight_decay" => self.weight_decay = from.weight_decay,
            "nesterov" => self.nesterov = from.nesterov,
            "betas" => self.betas = from.betas,
            "eps" => self.eps = from.eps,
            "amsgrad" => self.amsgrad = from.amsgrad,
            "maximize" => self.maximize = from.maximize,
            _ => {}
        }
    }

    /// The value of a key, as a group writes it that has it from its optimizer's `defaults`, or of its `own`.
    pub(super) fn object(&self, rule: Rule, key: &str, own: bool) -> Object {
        // What PyTorch's signatures have as an integer.
        let int = |float: f64, is_int: bool| {
            if is_int && !own && float == 0.0 { Object::from(0) } else { Object::from(float) }
        };
        match key {
            "lr" => self.lr.into(),
            "momentum" => int(self.momentum, true),
            "dampening" => int(self.dampening, true),
            "weight_decay" => int(self.weight_decay, rule != Rule::AdamW),
            "nesterov" => self.nesterov.into(),
            "betas" => Object::tuple([self.betas.0, self.betas.1]),
            "eps" => self.eps.into(),
            "amsgrad" => self.amsgrad.into(),
            "maximize" => self.maximize.into(),
            "capturable" | "differentiable" => false.into(),
            "decoupled_weight_decay" => rule.decouples().into(),
            // "foreach", "fused": PyTorch chooses.
            _ => Object::none(),
        }
    }

    /// Takes the value of a key from a group of a file; of a key that says nothing about arithmetic, nothing.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn read(&mut self, key: &str, value: Value<'_>) -> Result<(), &'static str> {
        match key {
            "lr" => self.lr = number(value)?,
            "momentum" => self.momentum = number(value)?,
            "dampening" => self.dampening = number(value)?,
            "weight_decay" => self.weight_decay = number(value)?,
            "eps" => self.eps = number(value)?,
            "betas" => {
                let betas: Vec<Value<'_>> = value.items().collect();
                let [first, second] = betas.as_slice() else { return Err("two numbers") };
                self.betas = (number(*first)?, number(*second)?);
            }
            "nesterov" => self.nesterov = truth(value)?,
            "amsgrad" => self.amsgrad = truth(value)?,
            "maximize" => self.maximize = truth(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The first setting that has no meaning: its key, what it must be, what it is.
    pub(super) fn senseless(&self, rule: Rule) -> Option<(&'static str, &'static str, f64)> {
        let below_zero = |number: f64| number.is_nan() || number < 0.0;
        let no_share = |number: f64| !(0.0..1.0).contains(&number);
        let mut found = vec![
            (below_zero(self.lr), ("lr", "zero or more", self.lr)),
            (below_zero(self.weight_decay), ("weight_decay", "zero or more", self.weight_decay)),
        ];
        if rule == Rule::Sgd {
            found.push((below_zero(self.momentum), ("momentum", "zero or more", self.momentum)));
            let nesterov = self.nesterov && (self.momentum <= 0.0 || self.dampening != 0.0);
            found.push((
                nesterov,
                ("nesterov", "a momentum and no dampening, which Nesterov's needs", self.momentum),
            ));
        } else {
            let (first, second) = self.betas;
            found.push((below_zero(self.eps), ("eps", "zero or more", self.eps)));
            found.push((no_share(first), ("betas", "numbers from 0 to below 1", first)));
            found.push((no_share(second), ("betas", "numbers from 0 to below 1", second)));
        }
        found.into_iter().find(|(wrong, _)| *wrong).map(|(_, what)| what)
    }
}

/// An integer, a float, or a tensor of one.
pub(crate) fn number(value: Value<'_>) -> Result<f64, &'static str> {
    match value.kind() {
        ValueKind::Tensor(tensor) => number_of(tensor),
        _ => value.as_f64().map_err(|_| EXPECTED),
    }
}

const EXPECTED: &str = "a number, or a tensor of one";
pub(super) const UNREAD: &str = "a tensor that can be read";

/// The only element of a tensor.
pub(super) fn number_of(tensor: &Tensor) -> Result<f64, &'static str> {
    if tensor.numel() != 1 {
        return Err(EXPECTED);
    }
    let bytes = tensor.to_contiguous().map_err(|_| UNREAD)?;
    match tensor.dtype() {
        DType::Float64 => bytes.first_chunk().map(|&bytes| f64::from_le_bytes(bytes)).ok_or(EXPECTED),
        DType::Float32 => bytes.first_chunk().map(|&bytes| f32::from_le_bytes(bytes).into()).ok_or(EXPECTED),
        DType::Int64 => {
            // Steps and the like: PyTorch's own are far below.
            let int = bytes.first_chunk().map(|&bytes| i64::from_le_bytes(bytes)).ok_or(EXPECTED)?;
            i32::try_from(int).map(f64::from).map_err(|_| EXPECTED)
        }
        _ => Err(EXPECTED),
    }
}

fn truth(value: Value<'_>) -> Result<bool, &'static str> {
    match value.kind() {
        ValueKind::Bool(truth) => Ok(truth),
        ValueKind::Int(int) => Ok(int != 0),
        ValueKind::None => Ok(false),
        _ => Err("True or False"),
    }
}
