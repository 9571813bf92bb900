//! What is written of an object: a graph in PyTorch's dialect, and the storages that its persistent ids name. The
//! counterpart of `interpret`.

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

use super::names::{Known, known};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Call, Graph, Literals, More, Node, NodeId, Object as CallNode};
use crate::storage::{Storage, element_bytes};
use crate::tensor::{Layout, Quantized, QuantizedParameter, Sparse, Tensor, TensorKind};

/// A graph, and the storages that it names: the key of each is its place.
pub(crate) struct Outline {
    pub(crate) graph: Graph,
    pub(crate) storages: Vec<Stored>,
    /// Texts that are one object each wherever they stand, in CPython's own constants too.
    pub(crate) literals: Literals,
}

/// A storage, and what it is taken for.
#[derive(Clone)]
pub(crate) struct Stored {
    /// In an archive the place among the storages; streams may have other keys.
    pub(crate) key: String,
    pub(crate) storage: Storage,
    /// Of its class in the file; `None` for bytes.
    pub(crate) class: Option<DType>,
    /// By which it is swapped between byte orders.
    pub(crate) dtype: DType,
}

/// Makes an outline.
pub(super) struct Outliner {
    pub(super) graph: Graph,
    pub(super) storages: Vec<Stored>,
    pub(super) dialect: PidDialect,
    /// By [`Storage::id`], the place in `storages`.
    by_id: HashMap<usize, usize>,
    /// The text of each key.
    keys: Vec<NodeId>,
    /// Keys of a stream that was read.
    kept: HashSet<String>,
    foreign_keys: bool,
    literals: Literals,
    /// By full name.
    globals: HashMap<Box<str>, NodeId>,
    /// Modules and names of the first few, which are asked for again and again.
    first_globals: Vec<(Box<str>, Box<str>, NodeId)>,
    /// The global that was asked for last.
    full_name: String,
    /// The name of the module of the types of elements.
    dtypes: Option<NodeId>,
    layouts: HashMap<Layout, NodeId>,
    immutable: Immutable,
    /// Of the tensor before, to be used again.
    args: Vec<NodeId>,
}

/// Values that are written often, and that a pickle does not tell from others of the same value: a node each.
struct Immutable {
    flags: [Option<NodeId>; 2],
    ints: [Option<NodeId>; 256],
    empty_tuple: Option<NodeId>,
}

/// How containers spell persistent ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PidDialect {
    /// Of archives: five members.
    Zip,
    /// Of legacy streams: a sixth, which says that the storage is no part of another.
    Legacy,
}

impl Outliner {
    /// Goes on with a graph.
    pub(super) fn new(graph: Graph, dialect: PidDialect) -> Self {
        Self {
            graph,
            storages: Vec::new(),
            dialect,
            by_id: HashMap::new(),
            keys: Vec::new(),
            kept: HashSet::new(),
            foreign_keys: false,
            literals: Literals::default(),
            globals: HashMap::new(),
            first_globals: Vec::new(),
            full_name: String::new(),
            dtypes: None,
            layouts: HashMap::new(),
            immutable: Immutable { flags: [None; 2], ints: [None; 256], empty_tuple: None },
            args: Vec::new(),
        }
    }

    /// Makes room for so many plain tensors in a dict, each with a name and a storage of its own; the names take so many
    /// bytes.
    pub(super) fn reserve(&mut self, tensors: usize, names: usize) {
        let times = |count: usize| tensors.saturating_mul(count);
        // A key has six digits at most, but for a million storages.
        let heap = times(6).saturating_add(names);
        self.graph.reserve(times(10), times(14), times(2).saturating_add(1), heap);
        self.storages.reserve(tensors);
        self.by_id.reserve(tensors);
        self.keys.reserve(tensors);
    }

    pub(super) fn finish(self) -> Outline {
        let Self { graph, storages, literals, .. } = self;
        Outline { graph, storages, literals }
    }

    // Values.

    /// A text that is one object wherever it stands.
    pub(super) fn literal(&mut self, text: &str) -> Result<NodeId> {
        self.literals.text(&mut self.graph, text)
    }

    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<NodeId> {
        let is_it = |(of, known, _): &&(Box<str>, Box<str>, _)| **known == *name && **of == *module;
        if let Some((.., id)) = self.first_globals.iter().find(is_it) {
            return Ok(*id);
        }
        self.full_name.clear();
        self.full_name.extend([module, ".", name]);
        if let Some(id) = self.globals.get(self.full_name.as_str()) {
            return Ok(*id);
        }
        let full = self.full_name.clone();
        let id = self.graph.add_global(module, &full)?;
        if self.first_globals.len() < 8 {
            self.first_globals.push((module.into(), name.into(), id));
        }
        // Classes and functions know their module; that of types of elements CPython looks up, and the name that it
        // finds is a text of its own.
        let module = match known(&full) {
            Some(Known::DType(_)) => match self.dtypes {
                Some(text) => text,
                None => *self.dtypes.insert(self.graph.add_text(module)?),
            },
            _ => self.literals.module(&mut self.graph, module)?,
        };
        let name = self.graph.add_text(name)?;
        self.graph.spell_global(id, module, name);
        self.globals.insert(full.into(), id);
        Ok(id)
    }

    pub(super) fn call(&mut self, callable: NodeId, args: &[NodeId]) -> Result<NodeId> {
        let args = self.graph.add_tuple(args)?;
        let node = self.graph.new_object(CallNode { call: Call::Reduce, callable, args, more: None })?;
        self.graph.add(node)
    }

    pub(super) fn int(&mut self, int: usize) -> Result<NodeId> {
        let number =
            i64::try_from(int).map_err(|_| Error::misuse(format!("{int} is beyond PyTorch's integers")))?;
        let Some(known) = self.immutable.ints.get_mut(int) else { return self.graph.add(Node::Int(number)) };
        one(known, || self.graph.add(Node::Int(number)))
    }

    pub(super) fn flag(&mut self, flag: bool) -> Result<NodeId> {
        let [no, yes] = &mut self.immutable.flags;
        one(if flag { yes } else { no }, || self.graph.add(Node::Bool(flag)))
    }

    pub(super) fn ints(&mut self, ints: &[usize]) -> Result<NodeId> {
        // Most are few.
        if let &[int] = ints {
            let int = self.int(int)?;
            return self.graph.add_tuple(&[int]);
        }
        let ids: Vec<NodeId> = ints.iter().map(|&int| self.int(int)).collect::<Result<_>>()?;
        self.graph.add_tuple(&ids)
    }

    pub(super) fn ordered_dict(&mut self, more: Option<More>) -> Result<NodeId> {
        let callable = self.global("collections", "OrderedDict")?;
        let args = one(&mut self.immutable.empty_tuple, || self.graph.add_tuple(&[]))?;
        let more = more.map(Box::new);
        let node = self.graph.new_object(CallNode { call: Call::Reduce, callable, args, more })?;
        self.graph.add(node)
    }

    pub(super) fn size(&mut self, sizes: &[usize]) -> Result<NodeId> {
        let callable = self.global("torch", "Size")?;
        let sizes = self.ints(sizes)?;
        self.call(callable, &[sizes])
    }

    pub(super) fn device(&mut self, location: &Location) -> Result<NodeId> {
        let callable = self.global("torch", "device")?;
        let device = self.graph.add_text(location.device())?;
        match location.index() {
            None => self.call(callable, &[device]),
            Some(index) => {
                let index = self.graph.add(Node::Int(index.into()))?;
                self.call(callable, &[device, index])
            }
        }
    }

    /// Layouts are objects of which there is one each.
    pub(super) fn layout(&mut self, layout: Layout) -> Result<NodeId> {
        if let Some(id) = self.layouts.get(&layout) {
            return Ok(*id);
        }
        let callable = self.global("torch.serialization", "_get_layout")?;
        let name = self.graph.add_text(&format!("torch.{}", layout.name()))?;
        let id = self.call(callable, &[name])?;
        self.layouts.insert(layout, id);
        Ok(id)
    }

    pub(super) fn dtype(&mut self, dtype: DType) -> Result<NodeId> {
        self.global("torch", dtype.name())
    }

    // Storages.

    /// The persistent id of a storage, taken for one of a class.
    ///
    /// # Errors
    /// `Misuse` where it was taken for another before.
    pub(super) fn storage(
        &mut self,
        storage: &Storage,
        class: Option<DType>,
        dtype: DType,
    ) -> Result<NodeId> {
        // Types without a class go by bytes.
        let class = class.filter(|dtype| dtype.storage_class().is_some());
        let place = self.place(storage, class, dtype)?;
        let kind = self.literal("storage")?;
        let class = match class.and_then(DType::storage_class) {
            Some(class) => self.global("torch", class)?,
            None => self.global("torch.storage", "UntypedStorage")?,
        };
        let key = match self.dialect {
            PidDialect::Zip => self.key(place)?,
            // Of addresses PyTorch makes a text each time.
            PidDialect::Legacy => {
                let key = self.stored(place).map_or_else(String::new, |stored| stored.key.clone());
                self.graph.add_text(&key)?
            }
        };
        let location = storage.location().as_str();
        // Python makes the name of a device with an index anew each time.
        let location = if storage.location().index().is_some() {
            self.graph.add_text(location)?
        } else {
            self.literal(location)?
        };
        let numel =
            storage.nbytes().checked_div(element_bytes(self.stored(place).and_then(|stored| stored.class)));
        let numel = self.int(numel.and_then(|numel| numel.try_into().ok()).unwrap_or(usize::MAX))?;
        let pid = match self.dialect {
            PidDialect::Zip => self.graph.add_tuple(&[kind, class, key, location, numel])?,
            PidDialect::Legacy => {
                let no_part = self.graph.add(Node::None)?;
                self.graph.add_tuple(&[kind, class, key, location, numel, no_part])?
            }
        };
        self.graph.add(Node::PersistentId(pid))
    }

    fn stored(&self, place: usize) -> Option<&Stored> {
        self.storages.get(place)
    }

    /// The place of a storage among those that are written.
    pub(super) fn place(&mut self, storage: &Storage, class: Option<DType>, dtype: DType) -> Result<usize> {
        if let Some(&place) = self.by_id.get(&storage.id()) {
            let known = self.storages.get(place).and_then(|stored| stored.class);
            // An untyped storage is one of bytes; PyTorch does not look at storages without any.
            let differs = known.unwrap_or(DType::UInt8) != class.unwrap_or(DType::UInt8);
            if differs && storage.nbytes() > 0 {
                return Err(Error::misuse(
                    "cannot save multiple tensors or storages that view the same data as different types",
                ));
            }
            return Ok(place);
        }
        let place = self.storages.len();
        // Streams that were read may have any keys.
        let key = (place..).map(|number| number.to_string()).find(|key| !self.kept.contains(key));
        let key = key.unwrap_or_default();
        self.storages.push(Stored { key, storage: storage.clone(), class, dtype });
        self.by_id.insert(storage.id(), place);
        Ok(place)
    }

    /// Notes the key that a storage has in a file that was read.
    pub(super) fn keep_key(&mut self, place: usize, key: Option<&str>) {
        let Some(stored) = self.storages.get_mut(place) else { return };
        match key {
            Some(key) if self.dialect == PidDialect::Legacy => {
                stored.key = key.to_owned();
                self.kept.insert(key.to_owned());
            }
            Some(key) if stored.key == key => {}
            _ => self.foreign_keys = true,
        }
    }

    /// Whether every key that was noted is one that a writer would give.
    pub(super) fn keys_are_kept(&self) -> bool {
        !self.foreign_keys
    }

    fn key(&mut self, place: usize) -> Result<NodeId> {
        let Self { keys, storages, graph, .. } = self;
        while keys.len() <= place {
            let key = storages.get(keys.len()).map_or("", |stored| &stored.key);
            keys.push(graph.add_text(key)?);
        }
        keys.get(place).copied().ok_or_else(|| Reason::Object("a storage without a key".into()).into())
    }

    // Tensors.

    /// A tensor, or a parameter around one.
    pub(super) fn tensor(&mut self, tensor: &Tensor) -> Result<NodeId> {
        if !tensor.is_parameter() {
            return self.plain_tensor(tensor, tensor.requires_grad());
        }
        let (callable, args) = self.parameter(tensor)?;
        self.call(callable, &args)
    }

    /// `_rebuild_parameter(data, requires_grad, OrderedDict())`.
    pub(super) fn parameter(&mut self, tensor: &Tensor) -> Result<(NodeId, [NodeId; 3])> {
        let callable = self.global("torch._utils", "_rebuild_parameter")?;
        let data = self.plain_tensor(tensor, false)?;
        let requires_grad = self.flag(tensor.requires_grad())?;
        let hooks = self.ordered_dict(None)?;
        Ok((callable, [data, requires_grad, hooks]))
    }

    fn plain_tensor(&mut self, tensor: &Tensor, requires_grad: bool) -> Result<NodeId> {
        let (callable, args) = self.rebuild(tensor, requires_grad)?;
        let node = self.call(callable, &args)?;
        self.args = args;
        Ok(node)
    }

    /// The function that rebuilds a tensor, and its arguments.
    pub(super) fn rebuild(&mut self, tensor: &Tensor, requires_grad: bool) -> Result<(NodeId, Vec<NodeId>)> {
        match tensor.kind() {
            TensorKind::Strided => self.strided(tensor, requires_grad),
            TensorKind::Meta => {
                let function = self.global("torch._utils", "_rebuild_meta_tensor_no_storage")?;
                let dtype = self.dtype(tensor.dtype())?;
                let (shape, stride) = (self.ints(tensor.shape())?, self.ints(tensor.stride())?);
                let requires_grad = self.flag(requires_grad)?;
                Ok((function, vec![dtype, shape, stride, requires_grad]))
            }
            TensorKind::Sparse(sparse) => self.sparse(tensor, sparse),
            TensorKind::Quantized(quantized) => self.quantized(tensor, quantized, requires_grad),
            TensorKind::Nested(_) | TensorKind::Wrapper { .. } => Err(Reason::Unsupported(
                "a nested tensor or a wrapper subclass is saved with the checkpoint that it is in, not by itself".into(),
            )
            .into()),
        }
    }

    fn strided(&mut self, tensor: &Tensor, requires_grad: bool) -> Result<(NodeId, Vec<NodeId>)> {
        let class = tensor.dtype().storage_class().map(|_| tensor.dtype());
        let name = if class.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" };
        let function = self.global("torch._utils", name)?;
        let mut args = self.view(tensor, class)?;
        args.push(self.flag(requires_grad)?);
        args.push(self.ordered_dict(None)?);
        if class.is_none() {
            args.push(self.dtype(tensor.dtype())?);
        }
        if tensor.is_conj() || tensor.is_neg() {
            let mut bits = Vec::new();
            for (name, bit) in [("neg", tensor.is_neg()), ("conj", tensor.is_conj())] {
                if bit {
                    bits.extend([self.graph.add_text(name)?, self.flag(true)?]);
                }
            }
            args.push(self.graph.add_container(bits, Node::Dict)?);
        }
        Ok((function, args))
    }

    /// Storage, offset, sizes and strides.
    fn view(&mut self, tensor: &Tensor, class: Option<DType>) -> Result<Vec<NodeId>> {
        let none;
        let storage = match tensor.storage() {
            Some(storage) => storage,
            // A tensor without elements may have no storage of its own.
            None => {
                none = Storage::in_memory(class, crate::ByteOrder::NATIVE, Vec::new());
                &none
            }
        };
        let pid = self.storage(storage, class, tensor.dtype())?;
        let offset = self.int(tensor.storage_offset())?;
        let (shape, stride) = (self.ints(tensor.shape())?, self.ints(tensor.stride())?);
        let mut args = std::mem::take(&mut self.args);
        args.clear();
        args.extend([pid, offset, shape, stride]);
        Ok(args)
    }

    /// `_rebuild_sparse_tensor(layout, (indices, values, size, is_coalesced))`, and likewise.
    fn sparse(&mut self, tensor: &Tensor, sparse: &Sparse) -> Result<(NodeId, Vec<NodeId>)> {
        let function = self.global("torch._utils", "_rebuild_sparse_tensor")?;
        let layout = self.layout(sparse.layout)?;
        let mut parts = Vec::new();
        for (_, part) in &sparse.parts {
            parts.push(self.plain_tensor(part, part.requires_grad())?);
        }
        parts.push(self.size(tensor.shape())?);
        if sparse.layout == Layout::SparseCoo {
            parts.push(self.flag(sparse.is_coalesced.unwrap_or(false))?);
        }
        let parts = self.graph.add_tuple(&parts)?;
        Ok((function, vec![layout, parts]))
    }

    fn quantized(
        &mut self,
        tensor: &Tensor,
        quantized: &Quantized,
        requires_grad: bool,
    ) -> Result<(NodeId, Vec<NodeId>)> {
        let function = self.global("torch._utils", "_rebuild_qtensor")?;
        let mut args = self.view(tensor, Some(tensor.dtype()))?;
        let parameters = match quantized {
            Quantized::PerTensor { scale, zero_point } => {
                let scheme = self.global("torch", "per_tensor_affine")?;
                let scale = self.graph.add(Node::Float(*scale))?;
                let zero_point = self.graph.add(Node::Int(*zero_point))?;
                vec![scheme, scale, zero_point]
            }
            Quantized::PerChannel { scales, zero_points, axis, float_qparams: _ } => {
                // Whichever of the two it is: PyTorch tells them by the type of the scales.
                let scheme = self.global("torch", "per_channel_affine")?;
                let scales = self.channel_parameter(scales)?;
                let zero_points = self.channel_parameter(zero_points)?;
                vec![scheme, scales, zero_points, self.int(*axis)?]
            }
        };
        args.push(self.graph.add_tuple(&parameters)?);
        args.push(self.flag(requires_grad)?);
        args.push(self.ordered_dict(None)?);
        Ok((function, args))
    }

    fn channel_parameter(&mut self, parameter: &QuantizedParameter) -> Result<NodeId> {
        match parameter {
            QuantizedParameter::Tensor(tensor) => self.plain_tensor(tensor, tensor.requires_grad()),
            QuantizedParameter::List(numbers) => {
                let ids: Vec<NodeId> = numbers
                    .iter()
                    .map(|&number| self.graph.add(Node::Float(number)))
                    .collect::<Result<_>>()?;
                self.graph.add_container(ids, Node::List)
            }
        }
    }
}

/// The node that is known, or is then.
fn one(known: &mut Option<NodeId>, add: impl FnOnce() -> Result<NodeId>) -> Result<NodeId> {
    match known {
        Some(id) => Ok(*id),
        None => Ok(*known.insert(add()?)),
    }
}
