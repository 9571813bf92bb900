//! Storages go where they are told to, each once, and without being read where nobody needs their bytes.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ptser::{
    Availability, Backend, Checkpoint, DeviceStorage, ErrorKind, HostStorage, LoadOptions, Location,
    MapLocation, Object, Registry, Restored, Result, SaveOptions, StateDict,
};

use crate::{build, fixtures};

fn registry() -> Registry {
    Registry::linked().unwrap()
}

fn places(restored: &Restored) -> Vec<String> {
    restored.locations().map(|location| location.to_string()).collect()
}

/// A checkpoint of one storage at each of some locations.
fn at_locations(locations: &[&str]) -> Vec<u8> {
    let mut root = b"]".to_vec();
    let data = [0; 4];
    let names: Vec<String> = (0..locations.len()).map(|key| format!("data/{key}")).collect();
    for (key, location) in locations.iter().enumerate() {
        let (kind, key, location) =
            (build::text("storage"), build::text(&key.to_string()), build::text(location));
        let storage =
            [b"(", kind.as_slice(), b"ctorch\nFloatStorage\n", &key, &location, b"K\x01tQ"].concat();
        root.extend(build::tensor(&storage, 0, &[1], &[1]));
        root.push(b'a');
    }
    let pickle = build::pickle(&[&root]);
    let mut records: Vec<build::Record<'_>> = vec![("data.pkl", &pickle)];
    records.extend(names.iter().map(|name| (name.as_str(), data.as_slice())));
    build::archive("archive", &records)
}

#[test]
fn the_four_forms_of_map_location_place_storages() {
    let checkpoint = Checkpoint::from_bytes(at_locations(&["cpu", "here", "there:1"])).unwrap();
    let registry = registry().with(Elsewhere("here")).unwrap().with(Elsewhere("there")).unwrap();
    let place = |map: MapLocation| places(&checkpoint.restore(&registry, &map).unwrap());
    assert_eq!(place(MapLocation::recorded()), ["cpu", "here", "there:1"]);
    assert_eq!(place("cpu".into()), ["cpu", "cpu", "cpu"]);
    assert_eq!(place([("there:1", "here:2"), ("cpu", "there")].into()), ["there", "here", "here:2"]);
    let by_function = MapLocation::with(|storage, location| {
        let first = storage.key() == "0";
        assert_eq!(location, storage.location());
        Ok(first.then(|| Location::new("here:7")))
    });
    assert_eq!(place(by_function), ["here:7", "here", "there:1"]);
}

#[test]
fn the_map_location_of_the_options_holds_unless_another_is_given() {
    let bytes = at_locations(&["here", "there"]);
    let checkpoint = LoadOptions::new().map_location("cpu").from_bytes(bytes).unwrap();
    let recorded = checkpoint.restore(&registry(), &MapLocation::recorded()).unwrap();
    assert_eq!(places(&recorded), ["cpu", "cpu"]);
    let registry = registry().with(Elsewhere("here")).unwrap();
    let given = checkpoint.restore(&registry, &"here".into()).unwrap();
    assert_eq!(places(&given), ["here", "here"]);
}

#[test]
fn a_storage_is_placed_once_however_many_tensors_view_it() {
    let checkpoint = fixtures::open("shared.pt");
    let counted = Arc::new(Mutex::new(HashMap::<usize, usize>::new()));
    let counts = Arc::clone(&counted);
    let count = MapLocation::with(move |storage, _| {
        *counts.lock().unwrap().entry(storage.id()).or_default() += 1;
        Ok(None)
    });
    let restored = checkpoint.restore(&registry(), &count).unwrap();
    assert_eq!(restored.iter().len(), checkpoint.storages().len());
    assert!(counted.lock().unwrap().values().all(|&times| times == 1));
    let placed = |name| restored.get(checkpoint.tensor(name).unwrap().storage().unwrap()).unwrap();
    assert!(Arc::ptr_eq(placed("base"), placed("tail")));
    assert!(!Arc::ptr_eq(placed("tensor"), placed("equal_but_apart")));
}

#[test]
fn restored_bytes_are_in_the_machines_order() {
    for file in ["dtypes.pt", "dtypes_big.pt"] {
        let checkpoint = fixtures::open(file);
        let restored = checkpoint.restore(&registry(), &MapLocation::recorded()).unwrap();
        for (name, tensor) in checkpoint.tensors() {
            let placed = restored.get(tensor.storage().unwrap()).unwrap();
            let expected = tensor.to_contiguous_in(ptser::ByteOrder::NATIVE).unwrap();
            assert_eq!(placed.to_host().unwrap(), expected, "{file}: {name}");
            assert_eq!(registry().tag(&**placed).unwrap(), Location::cpu());
        }
    }
}

#[cfg(feature = "meta")]
#[test]
fn meta_restores_without_reading_a_storage_byte() {
    use ptser::backends::meta::MetaStorage;

    use crate::readers::{Counting, Memory};

    const SIZE: usize = 4 << 20;
    let numel = i64::try_from(SIZE / 4).unwrap();
    let pickle = build::dict_of("w", &build::tensor(&build::storage("0", numel), 0, &[numel], &[1]));
    let data = vec![7; SIZE];
    let padding = vec![0; 1 << 20];
    let archive = build::archive(
        "archive",
        &[("data.pkl", &pickle), ("data/0", &data), ("padding", &padding), ("version", b"3\n")],
    );
    let reads = Arc::new(Mutex::new(Vec::new()));
    let source = Counting { source: Memory(archive), reads: Arc::clone(&reads) };
    let checkpoint = LoadOptions::new().source(source).unwrap();
    let restored = checkpoint.restore(&registry(), &"meta".into()).unwrap();

    let (storage, placed) = restored.iter().next().unwrap();
    let meta = placed.as_any().downcast_ref::<MetaStorage>().unwrap();
    let start = storage.checkpoint_offset().unwrap().unwrap();
    assert_eq!(meta.checkpoint_offset(), Some(start));
    assert_eq!(placed.nbytes(), u64::try_from(SIZE).unwrap());
    assert_eq!(registry().tag(&**placed).unwrap(), Location::meta());
    assert_eq!(placed.to_host().unwrap_err().kind(), ErrorKind::Backend);
    let end = start + u64::try_from(SIZE).unwrap();
    let block = 64 << 10;
    for &(offset, len) in reads.lock().unwrap().iter() {
        // The directory is read in blocks; what lies far inside the storage is never touched.
        let inside = offset < end - block && offset + len > start + block;
        assert!(!inside, "{len} bytes at {offset} of a storage at {start}..{end}");
    }
}

#[cfg(feature = "meta")]
#[test]
fn meta_storages_know_the_offsets_that_pytorch_notes() {
    use ptser::backends::meta::MetaStorage;

    for (file, expected) in fixtures::expected() {
        let Some(offsets) = expected["offsets"].as_array() else { continue };
        let restored = fixtures::open(&file).restore(&registry(), &"meta".into()).unwrap();
        let offset = |placed: &Arc<dyn DeviceStorage>| {
            placed.as_any().downcast_ref::<MetaStorage>().unwrap().checkpoint_offset().unwrap().into()
        };
        let found: Vec<serde_json::Value> = restored.iter().map(|(_, placed)| offset(placed)).collect();
        assert_eq!(found, *offsets, "{file}");
    }
}

#[test]
fn a_location_that_nobody_claims_names_who_could() {
    let checkpoint = Checkpoint::from_bytes(at_locations(&["xla:0"])).unwrap();
    let error = checkpoint.restore(&registry(), &MapLocation::recorded()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert_eq!(error.record(), Some("data/0"));
    let text = error.to_string();
    assert!(text.starts_with("no backend claims xla:0; linked: cpu, "), "{text}");
    assert!(text.contains("map_location(\"cpu\")"), "{text}");
}

#[test]
fn a_device_that_is_absent_or_beyond_the_count_is_refused_in_pytorchs_words() {
    let bytes = at_locations(&["here:3"]);
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    let beyond = registry().with(Elsewhere("here")).unwrap();
    let only_two = Elsewhere("here");
    let error = only_two.validate(&Location::new("here:3")).unwrap_err();
    assert!(error.to_string().contains("HERE device 3, but the number of here devices is 3"), "{error}");
    assert_eq!(
        checkpoint.restore(&beyond, &MapLocation::recorded()).map(drop).unwrap_err().kind(),
        ErrorKind::Backend
    );
}

#[test]
fn a_backend_of_a_lower_number_is_asked_first() {
    let checkpoint = Checkpoint::from_bytes(at_locations(&["cpu"])).unwrap();
    let registry = registry().with(Usurper).unwrap();
    assert_eq!(registry.backends().next().map(Backend::name), Some("usurper"));
    let restored = checkpoint.restore(&registry, &MapLocation::recorded()).unwrap();
    assert_eq!(places(&restored), ["usurped"]);
}

#[test]
fn two_backends_of_one_name_are_an_error() {
    let error = registry().with(Elsewhere("cpu")).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert!(error.to_string().contains("\"cpu\""), "{error}");
}

/// A backend of three devices that keeps nothing but the name of a location.
/// The location that is written is the tag of the storage's backend; its bytes come to the host meanwhile.
#[test]
fn storages_on_devices_are_saved_where_they_are() {
    let checkpoint = fixtures::open("shared.pt");
    let registry = registry().with(Elsewhere("there")).unwrap();
    let restored = checkpoint.restore(&registry, &"there:1".into()).unwrap();
    let mut moved = HashMap::new();
    for (storage, placed) in restored.iter() {
        moved.insert(storage.id(), registry.storage(Arc::clone(placed), storage.dtype()).unwrap());
    }
    let mut state_dict = StateDict::default();
    for (name, tensor) in checkpoint.state_dict().unwrap().iter() {
        let storage = moved[&tensor.storage().unwrap().id()].clone();
        state_dict.insert(name, tensor.clone().with_storage(storage).unwrap());
    }
    let again = Checkpoint::from_bytes(SaveOptions::new().to_bytes(&state_dict).unwrap()).unwrap();
    assert!(again.storages().iter().all(|storage| storage.location().as_str() == "there:1"));
    assert_eq!(again.storages().len(), moved.len());
    for (name, tensor) in state_dict.iter() {
        let was = checkpoint.state_dict().unwrap().get(name).unwrap().to_contiguous().unwrap().into_owned();
        assert_eq!(again.tensor(name).unwrap().to_contiguous().unwrap(), was, "{name}");
        assert_eq!(again.tensor(name).unwrap().stride(), tensor.stride());
    }

    // A meta storage has nothing to be saved.
    let meta = checkpoint.restore(&registry, &"meta".into()).unwrap();
    let (storage, placed) = meta.iter().next().unwrap();
    let storage = registry.storage(Arc::clone(placed), storage.dtype()).unwrap();
    let error = SaveOptions::new().to_bytes(&Object::storage(storage, None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    let unknown: Arc<dyn DeviceStorage> = Arc::new(Kept(Location::new("nowhere"), Vec::new()));
    assert_eq!(registry.storage(unknown, None).unwrap_err().kind(), ErrorKind::Backend);
}

struct Elsewhere(&'static str);

struct Kept(Location, Vec<u8>);

impl DeviceStorage for Kept {
    fn location(&self) -> Location {
        self.0.clone()
    }

    fn nbytes(&self) -> u64 {
        self.1.len() as u64
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.1))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Backend for Elsewhere {
    fn name(&self) -> &str {
        self.0
    }

    fn priority(&self) -> i32 {
        50
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        let kept = storage.as_any().downcast_ref::<Kept>()?;
        (kept.0.device() == self.0).then(|| kept.0.clone())
    }

    fn availability(&self) -> Availability {
        Availability::Devices(3)
    }

    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != self.0 {
            return Ok(None);
        }
        if location.index() == Some(3) {
            self.validate(location)?;
        }
        Ok(Some(Box::new(Kept(location.clone(), storage.to_vec()?))))
    }
}

/// Claims what the backend of the host would take.
struct Usurper;

impl Backend for Usurper {
    fn name(&self) -> &str {
        "usurper"
    }

    fn priority(&self) -> i32 {
        5
    }

    fn tag(&self, _: &dyn DeviceStorage) -> Option<Location> {
        None
    }

    fn availability(&self) -> Availability {
        Availability::Devices(1)
    }

    fn restore(&self, _: HostStorage<'_>, location: &Location) -> Result<Option<Box<dyn DeviceStorage>>> {
        Ok((location.as_str() == "cpu")
            .then(|| Box::new(Kept(Location::new("usurped"), Vec::new())) as Box<dyn DeviceStorage>))
    }
}

#[test]
fn the_cpu_may_have_its_index_and_devices_that_are_absent_say_so() {
    let place = |location: &str| {
        let checkpoint = Checkpoint::from_bytes(at_locations(&[location])).unwrap();
        checkpoint.restore(&registry(), &MapLocation::recorded()).map(|restored| places(&restored))
    };
    assert_eq!(place("cpu:0").unwrap(), ["cpu"]);
    let error = place("cpu:1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.to_string().contains("the number of cpu devices is 1"), "{error}");
    #[cfg(feature = "cuda")]
    {
        let error = place("cuda:0").unwrap_err();
        assert_eq!((error.kind(), error.record()), (ErrorKind::Backend, Some("data/0")));
        let text = error.to_string();
        assert!(
            text.contains("CUDA") && text.contains("not available") && text.contains("map_location"),
            "{text}"
        );
    }
}
