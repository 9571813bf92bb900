//! The backends that are linked are those of the enabled features, in PyTorch's order.
//!
//! A backend crate that no code names is not linked, and its registration silently never happens: this fails
//! where the facade forgets to name one.

#[cfg(test)]
mod tests {
    use ptser::{Backend, Registry};

    #[test]
    fn features_and_linked_backends_agree() {
        let known = [
            (10, "cpu", true),
            (20, "cuda", cfg!(feature = "cuda")),
            (21, "mps", cfg!(feature = "metal")),
            (22, "meta", cfg!(feature = "meta")),
        ];
        let expected: Vec<(i32, &str)> = known
            .iter()
            .filter(|(_, _, enabled)| *enabled)
            .map(|&(priority, name, _)| (priority, name))
            .collect();
        let registry = Registry::linked().unwrap();
        let found: Vec<(i32, &str)> =
            registry.backends().map(|backend| (backend.priority(), backend.name())).collect();
        assert_eq!(found, expected);
        assert_eq!(format!("{registry:?}"), format!("{expected:?}"));
        for (_, name) in expected {
            assert_eq!(registry.backend(&name.into()).map(Backend::name), Some(name));
        }
    }
}
