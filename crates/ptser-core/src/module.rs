//! The state dict of a pickled `torch.nn.Module` that was never made, by the names that PyTorch gives it.

use std::collections::HashSet;

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
    let mut walk = Walk { limits, found: Vec::new(), names_bytes: 0, open: HashSet::new() };
    if is_module(value) {
        walk.run(String::new(), value)?;
    } else if value.is_mapping() && value.entries().any(|(_, value)| is_module(value)) {
        for (key, value) in value.entries() {
            let name = match key.kind() {
                ValueKind::Str(text) => text.to_owned(),
                _ => key.to_string(),
            };
            match value.as_tensor() {
                Ok(tensor) => walk.add(name, tensor)?,
                Err(_) if is_module(value) => walk.run(format!("{name}."), value)?,
                Err(_) => {}
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

struct Walk<'l> {
    limits: &'l Limits,
    found: Vec<(String, Tensor)>,
    names_bytes: u64,
    /// Modules on the way to the current one, which would be inside themselves.
    open: HashSet<NodeId>,
}

enum Task<'c> {
    Enter { prefix: String, module: Value<'c> },
    Leave(NodeId),
}

impl Walk<'_> {
    fn run(&mut self, prefix: String, module: Value<'_>) -> Result<()> {
        let mut tasks = vec![Task::Enter { prefix, module }];
        while let Some(task) = tasks.pop() {
            let (prefix, module) = match task {
                Task::Enter { prefix, module } => (prefix, module),
                Task::Leave(module) => {
                    self.open.remove(&module);
                    continue;
                }
            };
            if !is_module(module) || !self.open.insert(module.id) {
                continue;
            }
            self.tensors(&prefix, module)?;
            tasks.push(Task::Leave(module.id));
            let first = tasks.len();
            for (name, module) in field(module, "_modules").into_iter().flat_map(Value::entries) {
                let ValueKind::Str(name) = name.kind() else { continue };
                let prefix = format!("{prefix}{name}.");
                self.pay(&prefix)?;
                tasks.push(Task::Enter { prefix, module });
            }
            if let Some(children) = tasks.get_mut(first..) {
                children.reverse();
            }
        }
        Ok(())
    }

    /// Parameters, then the buffers that are to be saved.
    fn tensors(&mut self, prefix: &str, module: Value<'_>) -> Result<()> {
        let transient: HashSet<&str> = module
            .find("_non_persistent_buffers_set")
            .into_iter()
            .flat_map(Value::items)
            .filter_map(|name| name.as_str().ok())
            .collect();
        for (kind, excluded) in [("_parameters", None), ("_buffers", Some(&transient))] {
            for (name, value) in field(module, kind).into_iter().flat_map(Value::entries) {
                // A parameter that was not registered is None.
                let (ValueKind::Str(name), ValueKind::Tensor(tensor)) = (name.kind(), value.kind()) else {
                    continue;
                };
                if excluded.is_none_or(|excluded| !excluded.contains(name)) {
                    self.add(format!("{prefix}{name}"), tensor)?;
                }
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
        let bytes = u64::try_from(name.len()).unwrap_or(u64::MAX).saturating_add(16);
        self.names_bytes = self.names_bytes.saturating_add(bytes);
        limits::check(
            "the names of all tensors in bytes",
            "names_bytes",
            self.names_bytes,
            self.limits.names_bytes,
        )
    }
}
