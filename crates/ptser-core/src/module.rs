//! The state dict of a pickled `torch.nn.Module` that was never made, by the names that PyTorch gives it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::error::Result;
use crate::limits::{self, Limits};
use crate::pickle::NodeId;
use crate::state_dict::StateDict;
use crate::tensor::Tensor;
use crate::value::{Value, ValueKind};

/// Whether a value is a module: an object that holds parameters and modules as `torch.nn.Module` does.
pub(crate) fn is_module(value: Value<'_>) -> bool {
    matches!(value.kind(), ValueKind::Object)
        && ["_modules", "_parameters"].iter().all(|name| field(value, name).is_some())
}

/// The state dict of a module, or of a dict of modules; `None` for anything else.
///
/// # Errors
/// `LimitExceeded` for modules that share others so often that their names would not end.
pub(crate) fn state_dict(value: Value<'_>, limits: &Limits) -> Result<Option<StateDict>> {
    let mut walk =
        Walk { limits, modules: HashMap::new(), found: Vec::new(), names_bytes: 0, open: HashSet::new() };
    if walk.module(value).is_some() {
        walk.run(String::new(), value)?;
    } else if value.is_mapping() && value.entries().any(|(_, value)| walk.module(value).is_some()) {
        for (key, value) in value.entries() {
            let name = match key.kind() {
                ValueKind::Str(text) => text.to_owned(),
                _ => key.to_string(),
            };
            match value.as_tensor() {
                Ok(tensor) => walk.add(name, tensor)?,
                Err(_) => walk.run(format!("{name}."), value)?,
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(walk.found.into_iter().collect()))
}

/// A field of a module; of a `torch.fx.GraphModule`, which pickles its fields as an argument, too.
fn field<'c>(module: Value<'c>, name: &str) -> Option<Value<'c>> {
    let own = module.find(name);
    own.or_else(|| module.args().next()?.find(name)).filter(|field| field.is_mapping())
}

/// What a module holds itself.
struct Module<'c> {
    /// Parameters, then the buffers that are to be saved.
    tensors: Vec<(&'c str, &'c Tensor)>,
    children: Vec<(&'c str, Value<'c>)>,
}

impl<'c> Module<'c> {
    fn of(value: Value<'c>) -> Option<Self> {
        if !is_module(value) {
            return None;
        }
        let transient: HashSet<&str> = value
            .find("_non_persistent_buffers_set")
            .into_iter()
            .flat_map(Value::items)
            .filter_map(|name| name.as_str().ok())
            .collect();
        let named = |name: &str| {
            let entries = field(value, name).into_iter().flat_map(Value::entries);
            entries.filter_map(|(name, value)| match name.kind() {
                ValueKind::Str(name) => Some((name, value)),
                _ => None,
            })
        };
        // A parameter that was not registered is None.
        let tensor = |(name, value): (&'c str, Value<'c>)| match value.kind() {
            ValueKind::Tensor(tensor) => Some((name, tensor)),
            _ => None,
        };
        let buffers = named("_buffers").filter_map(tensor).filter(|(name, _)| !transient.contains(name));
        let tensors = named("_parameters").filter_map(tensor).chain(buffers).collect();
        Some(Self { tensors, children: named("_modules").collect() })
    }
}

struct Walk<'c, 'l> {
    limits: &'l Limits,
    /// Looked at once each, however often they are there.
    modules: HashMap<NodeId, Option<Rc<Module<'c>>>>,
    found: Vec<(String, Tensor)>,
    names_bytes: u64,
    /// Modules on the way to the current one, which would be inside themselves.
    open: HashSet<NodeId>,
}

enum Task<'c> {
    Enter { prefix: String, module: Value<'c> },
    Leave(NodeId),
}

impl<'c> Walk<'c, '_> {
    fn module(&mut self, value: Value<'c>) -> Option<Rc<Module<'c>>> {
        // Tensors, most of what there is, need no note that they are none.
        if !matches!(value.kind(), ValueKind::Object) {
            return None;
        }
        self.modules.entry(value.id).or_insert_with(|| Module::of(value).map(Rc::new)).clone()
    }

    fn run(&mut self, prefix: String, module: Value<'c>) -> Result<()> {
        let mut tasks = vec![Task::Enter { prefix, module }];
        while let Some(task) = tasks.pop() {
            let (prefix, id, module) = match task {
                Task::Enter { prefix, module } => (prefix, module.id, self.module(module)),
                Task::Leave(module) => {
                    self.open.remove(&module);
                    continue;
                }
            };
            let Some(module) = module.filter(|_| self.open.insert(id)) else { continue };
            for (name, tensor) in &module.tensors {
                self.add(format!("{prefix}{name}"), tensor)?;
            }
            tasks.push(Task::Leave(id));
            for &(name, module) in module.children.iter().rev() {
                let prefix = format!("{prefix}{name}.");
                self.pay(&prefix)?;
                tasks.push(Task::Enter { prefix, module });
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, tensor: &Tensor) -> Result<()> {
        self.pay(&name)?;
        let found = u64::try_from(self.found.len()).unwrap_or(u64::MAX);
        limits::check("the number of paths to tensors", "tensors_listed", found, self.limits.tensors_listed)?;
        self.found.push((name, tensor.clone()));
        Ok(())
    }

    /// Modules that share others have more names than there are modules.
    fn pay(&mut self, name: &str) -> Result<()> {
        let bytes = u64::try_from(name.len()).unwrap_or(u64::MAX).saturating_add(64);
        self.names_bytes = self.names_bytes.saturating_add(bytes);
        limits::check(
            "the names of all tensors in bytes",
            "names_bytes",
            self.names_bytes,
            self.limits.names_bytes,
        )
    }
}
