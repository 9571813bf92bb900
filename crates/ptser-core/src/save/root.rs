//! The name that PyTorch gives an archive's root folder.

use std::path::Path;

use crate::error::{Error, Result};

/// The file's name up to its last dot.
///
/// # Errors
/// `Misuse` where nothing is left, which PyTorch refuses too.
pub(super) fn root_of(path: &Path) -> Result<String> {
    let text = path.to_string_lossy();
    // PyTorch opens such paths itself, and hands its writer no name.
    if !text.is_ascii() {
        return Ok("archive".into());
    }
    let name = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let root = name.rsplit_once('.').map_or(name, |(root, _)| root);
    if root.is_empty() {
        return Err(Error::misuse(format!(
            "{name:?} leaves no name for the archive's folder; name the file otherwise"
        )));
    }
    Ok(root.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected names are those that torch 2.15 gives.
    #[test]
    fn roots_are_pytorchs() {
        for (path, root) in [
            ("some.model.v1.pt", "some.model.v1"),
            ("x.", "x"),
            ("noext", "noext"),
            ("dir.with.dot/file", "file"),
            ("a\\b.pt", "b"),
            ("模型/model.pt", "archive"),
        ] {
            assert_eq!(root_of(Path::new(path)).unwrap(), root);
        }
        assert!(root_of(Path::new("a/.pt")).is_err());
    }
}
