//! Plain values come out as they went in, down to the bits of floats and lone surrogates.

use ptser::{Checkpoint, Value, ValueKind};
use serde_json::Value as Json;

use crate::support::sha256;
use crate::{build, fixtures};

#[test]
fn value_trees_are_those_that_pytorch_loads() {
    let mut checked = 0;
    for (file, expected) in fixtures::expected() {
        let Some(tree) = expected.get("value") else { continue };
        let checkpoint = fixtures::open(&file);
        check_value(&file, &checkpoint, tree);
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

/// Compares the whole value of a checkpoint with its description.
pub(crate) fn check_value(file: &str, checkpoint: &Checkpoint, tree: &Json) {
    let mut compare = Compare { file, checkpoint, open: Vec::new() };
    compare.value(checkpoint.root(), tree, "");
}

struct Compare<'c> {
    file: &'c str,
    checkpoint: &'c Checkpoint,
    /// The containers that the walk is inside of.
    open: Vec<Value<'c>>,
}

impl<'c> Compare<'c> {
    fn value(&mut self, value: Value<'c>, tree: &Json, at: &str) {
        let kind = tree["type"].as_str().unwrap();
        let place = format!("{}: {at}: {value}, expected {kind}", self.file);
        match (kind, value.kind()) {
            ("none", ValueKind::None) => {}
            ("bool", ValueKind::Bool(bool)) => assert_eq!(tree["value"], bool, "{place}"),
            ("int", ValueKind::Int(int)) => assert_eq!(tree["repr"], int.to_string(), "{place}"),
            ("int", ValueKind::BigInt(int)) => assert_eq!(tree["repr"], int.to_string(), "{place}"),
            ("float", ValueKind::Float(float)) => assert_eq!(tree["bits"], bits(float), "{place}"),
            ("complex", ValueKind::Complex(re, im)) => {
                assert_eq!(tree["real"]["bits"], bits(re), "{place}");
                assert_eq!(tree["imag"]["bits"], bits(im), "{place}");
            }
            ("str", ValueKind::Str(text)) => assert_eq!(tree["utf8"], text, "{place}"),
            ("str", ValueKind::Surrogates(bytes)) => {
                assert_eq!(tree["surrogatepass_hex"], hex(bytes), "{place}")
            }
            ("bytes", ValueKind::Bytes(bytes)) | ("bytearray", ValueKind::ByteArray(bytes)) => {
                assert_eq!(tree["hex"], hex(bytes), "{place}");
            }
            ("set", ValueKind::Set) => {
                // In the order of their Python `repr`, on both sides.
                let mut items: Vec<Value<'c>> = value.items().collect();
                items.sort_by_key(ToString::to_string);
                self.items(&items, tree, at);
            }
            ("size", ValueKind::Size) => {
                let sizes: Vec<Json> = value.items().map(|size| size.as_i64().unwrap().into()).collect();
                assert_eq!(tree["items"], Json::from(sizes), "{place}");
            }
            ("device", ValueKind::Device(location)) => assert_eq!(tree["text"], location.as_str(), "{place}"),
            ("dtype", ValueKind::DType(dtype)) => assert_eq!(tree["name"], dtype.name(), "{place}"),
            ("layout", ValueKind::Layout(layout)) => assert_eq!(tree["name"], layout.name(), "{place}"),
            ("storage", ValueKind::Storage(storage, dtype)) => {
                assert_eq!(tree["dtype"], dtype.map_or("uint8", ptser::DType::name), "{place}");
                assert_eq!(tree["nbytes"], storage.nbytes(), "{place}");
                assert_eq!(tree["sha256"], sha256(&storage.to_vec().unwrap()), "{place}");
            }
            ("tensor", ValueKind::Tensor(tensor)) => {
                let index = usize::try_from(tree["index"].as_u64().unwrap()).unwrap();
                let listed = self.checkpoint.entries().nth(index).unwrap();
                assert!(std::ptr::eq(listed.tensor().unwrap(), tensor), "{place}");
                if let Some(attributes) = tree.get("attributes") {
                    self.attributes(value, attributes, at);
                }
            }
            ("cycle", ValueKind::List | ValueKind::Dict | ValueKind::OrderedDict | ValueKind::Tuple) => {
                assert!(self.open.iter().any(|open| open.is(value)), "{place}");
            }
            ("list", ValueKind::List) | ("tuple", ValueKind::Tuple) => {
                let items: Vec<Value<'c>> = value.items().collect();
                self.inside(value, |this| this.items(&items, tree, at));
            }
            ("dict", ValueKind::Dict)
            | ("ordered_dict", ValueKind::OrderedDict)
            | ("counter", ValueKind::Counter) => {
                self.inside(value, |this| this.entries(value, tree, at));
            }
            (_, found) => panic!("{place}: {found:?}"),
        }
    }

    fn inside(&mut self, value: Value<'c>, walk: impl FnOnce(&mut Self)) {
        self.open.push(value);
        walk(self);
        self.open.pop();
    }

    fn items(&mut self, items: &[Value<'c>], tree: &Json, at: &str) {
        let expected = tree["items"].as_array().unwrap();
        assert_eq!(items.len(), expected.len(), "{}: {at}", self.file);
        for (place, (item, expected)) in items.iter().zip(expected).enumerate() {
            self.value(*item, expected, &format!("{at}[{place}]"));
        }
    }

    fn entries(&mut self, value: Value<'c>, tree: &Json, at: &str) {
        let expected = tree["items"].as_array().unwrap();
        assert_eq!(value.len(), expected.len(), "{}: {at}", self.file);
        for ((key, value), expected) in value.entries().zip(expected) {
            let at = format!("{at}[{key}]");
            self.value(key, &expected[0], &at);
            self.value(value, &expected[1], &at);
        }
        if let Some(attributes) = tree.get("attributes") {
            self.attributes(value, attributes, at);
        }
    }

    fn attributes(&mut self, value: Value<'c>, expected: &Json, at: &str) {
        let expected = expected.as_object().unwrap();
        assert_eq!(value.attributes().count(), expected.len(), "{}: {at}", self.file);
        for ((name, attribute), (expected_name, expected)) in value.attributes().zip(expected) {
            assert_eq!(name.as_str().unwrap(), expected_name, "{}: {at}", self.file);
            self.value(attribute, expected, &format!("{at}.{expected_name}"));
        }
    }
}

fn bits(float: f64) -> String {
    hex(&float.to_be_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_path_of_keys_and_indexes_leads_to_a_number() {
    let checkpoint = fixtures::open("nested_model.pt");
    let root = checkpoint.root();
    let group = root.get("optimizer").unwrap().get("param_groups").unwrap().index(0).unwrap();
    assert_eq!(group.get("lr").unwrap().as_f64().unwrap(), 1e-3);
    assert_eq!(root.get("epoch").unwrap().as_i64().unwrap(), 12);
    assert_eq!(root.get("args").unwrap().get("name").unwrap().as_str().unwrap(), "demo");
    assert!(root.get("args").unwrap().get("resume").unwrap().is_none());
    let error = root.get("epoch").unwrap().as_str().unwrap_err();
    assert_eq!(error.kind(), ptser::ErrorKind::Misuse);
    assert!(error.to_string().contains("12"), "{error}");
}

#[test]
fn values_print_as_in_python() {
    let checkpoint = fixtures::open("protocol2.pt");
    let shown = |key: &str| checkpoint.root().get(key).unwrap().to_string();
    assert_eq!(shown("tuples"), "[(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]");
    assert_eq!(shown("floats"), "[0.0, -0.0, 1.5, inf]");
    assert_eq!(shown("complex"), "(1-2j)");
    assert_eq!(
        shown("torch"),
        "[torch.Size([2, 3]), device(type='cuda', index=0), torch.float16, torch.strided]"
    );
    assert_eq!(shown("bytearray"), "bytearray(b'mutable')");
    assert_eq!(shown("constants"), "[None, True, False]");
    let quote = build::pickle(&[&build::call("builtins.bytearray", &[b"C\x01'"])]);
    let checkpoint = Checkpoint::from_bytes(build::around(&quote)).unwrap();
    assert_eq!(checkpoint.root().to_string(), r#"bytearray(b"\'")"#);
}
