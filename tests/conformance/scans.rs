//! What a file names, told without loading it.

use std::collections::BTreeSet;

use ptser::{Checkpoint, GlobalScan, Globals, LoadOptions, Verdict};
use serde_json::Value as Json;

use crate::given;

fn set(names: &Json) -> BTreeSet<&str> {
    names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

fn refused(scan: &GlobalScan) -> BTreeSet<&str> {
    scan.refused().map(|global| global.name.as_str()).collect()
}

#[test]
fn test_get_unsafe_globals_in_checkpoint() {
    let facts = given::facts("two_tensor.pt");
    let path = given::path("two_tensor.pt");
    let class = "torch.testing._internal.two_tensor.TwoTensor";
    let scan = Checkpoint::unsafe_globals(&path).unwrap();
    assert!(!scan.is_safe() && scan.error.is_none());
    assert_eq!(refused(&scan), [class].into());
    let all: BTreeSet<&str> = scan.globals.iter().map(|global| global.name.as_str()).collect();
    assert_eq!(all, set(&facts["all"]));
    assert!(scan.globals.iter().all(|global| global.record.as_deref() == Some("data.pkl")));

    let allowing = LoadOptions::new().globals(Globals::weights_only().allow(class));
    let scan = allowing.unsafe_globals(&path).unwrap();
    assert!(scan.is_safe());
    assert_eq!(refused(&scan), set(&facts["unsafe_although_allowed"]));
    assert!(scan.globals.iter().any(|global| global.name == class && global.verdict == Verdict::Allowed));

    // In every archive of these tests, from a path and from bytes.
    let archives = given::facts("unsafe").as_object().unwrap();
    assert!(archives.len() > 60);
    for (name, unsafe_names) in archives {
        for scan in [
            Checkpoint::unsafe_globals(given::path(name)).unwrap(),
            LoadOptions::new().unsafe_globals_in_bytes(given::bytes(name)).unwrap(),
        ] {
            assert_eq!(refused(&scan), set(unsafe_names), "{name}");
            let blocked: Vec<&str> = scan
                .globals
                .iter()
                .filter(|global| global.verdict == Verdict::Blocked)
                .map(|global| global.name.as_str())
                .collect();
            assert_eq!(blocked.is_empty(), name != "execv.pt", "{name}: {blocked:?}");
        }
    }
}
