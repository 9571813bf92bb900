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
        Ok(first.then(|| Location::new("here:0")))
    });
    assert_eq!(place(by_function), ["here:0", "here", "there:1"]);
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

/// What a registry says to a location.
fn refusal(registry: &Registry, location: &str) -> String {
    let checkpoint = Checkpoint::from_bytes(at_locations(&[location])).unwrap();
    let error = checkpoint.restore(registry, &MapLocation::recorded()).map(drop).expect_err(location);
    assert_eq!((error.kind(), error.record()), (ErrorKind::Backend, Some("data/0")), "{location}");
    error.to_string().strip_suffix(" (record data/0)").expect(location).to_owned()
}

#[test]
fn a_location_that_nobody_claims_names_who_could() {
    let linked: Vec<String> = registry().backends().map(|backend| backend.name().to_owned()).collect();
    let linked = linked.join(", ");
    let plain = |location: &str| {
        format!("no backend claims `{location}`; linked: {linked}; load with map_location(\"cpu\")")
    };
    for location in ["xpu:0", "hpu", "CUDA", " cuda", "cpux", "cuda0", "", "nonsense"] {
        assert_eq!(refusal(&registry(), location), plain(location));
    }
    assert_eq!(refusal(&registry(), "a\u{1b}[31m"), plain("a\\u{1b}[31m"));
    let features = [("cuda", "cuda"), ("mps", "metal"), ("meta", "meta")];
    for (device, feature) in features {
        if registry().backend(&device.into()).is_none() {
            let expected = format!("{}, or enable feature `{feature}`", plain(device));
            assert_eq!(refusal(&registry(), device), expected);
        }
    }
}

/// PyTorch 2.15 refuses all of these, and takes `cpu` alone of those that are accepted here.
#[test]
fn an_index_is_a_number_as_pytorch_writes_it() {
    let registry = registry().with(Elsewhere("here")).unwrap();
    for nonsense in
        ["here:", "here:x", "here:01", "here:-1", "here:0:1", "here: 1", "here:1 ", "here:\u{0663}"]
    {
        let text = refusal(&registry, nonsense);
        assert!(text.starts_with(&format!("no backend claims `{nonsense}`; linked: ")), "{text}");
        assert!(text.ends_with("; an index is a number behind a colon, as in here:0"), "{text}");
    }
    let accepted = at_locations(&["cpu", "cpu:0", "here", "here:0", "here:2"]);
    let restored = Checkpoint::from_bytes(accepted).unwrap();
    let restored = restored.restore(&registry, &MapLocation::recorded()).unwrap();
    assert_eq!(places(&restored), ["cpu", "cpu", "here", "here:0", "here:2"]);
}

#[test]
fn a_device_that_is_absent_or_beyond_the_count_is_refused_in_pytorchs_words() {
    let absent = |availability: Availability, location: &str| {
        refusal(&registry().with(Absent(availability)).unwrap(), location)
    };
    let why = Availability::Unavailable("its cable is unplugged".into());
    assert_eq!(
        absent(why, "gone:1"),
        "attempting to deserialize an object on a GONE device (gone:1), but gone is not available: its cable is \
         unplugged; load with map_location(\"cpu\") to place it on the host"
    );
    let beyond = |index: u32, count: u32| {
        format!(
            "attempting to deserialize an object on GONE device {index}, but the number of gone devices is {count}; \
             load with map_location to place it on one that exists"
        )
    };
    assert_eq!(absent(Availability::Devices(2), "gone:2"), beyond(2, 2));
    assert_eq!(absent(Availability::Devices(2), "gone:4294967295"), beyond(u32::MAX, 2));
    // Without an index the first is meant.
    assert_eq!(absent(Availability::Devices(0), "gone"), beyond(0, 0));
    assert_eq!(refusal(&registry(), "cpu:1"), beyond(1, 1).replace("GONE", "CPU").replace("gone", "cpu"));
}

/// A backend whose device cannot be used.
struct Absent(Availability);

impl Backend for Absent {
    fn name(&self) -> &str {
        "gone"
    }

    fn priority(&self) -> i32 {
        50
    }

    fn tag(&self, _: &dyn DeviceStorage) -> Option<Location> {
        None
    }

    fn availability(&self) -> Availability {
        self.0.clone()
    }

    fn restore(&self, _: HostStorage<'_>, location: &Location) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != self.name() {
            return Ok(None);
        }
        self.validate(location)?;
        unreachable!("no device passes")
    }
}

/// Notes that it was asked, and answers as it was told to.
#[derive(Clone)]
struct Asked {
    name: &'static str,
    priority: i32,
    answer: fn() -> Result<Option<Box<dyn DeviceStorage>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Backend for Asked {
    fn name(&self) -> &str {
        self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn tag(&self, _: &dyn DeviceStorage) -> Option<Location> {
        self.asked.lock().unwrap().push(self.name);
        matches!((self.answer)(), Ok(Some(_))).then(|| self.name.into())
    }

    fn availability(&self) -> Availability {
        Availability::Devices(1)
    }

    fn restore(&self, _: HostStorage<'_>, _: &Location) -> Result<Option<Box<dyn DeviceStorage>>> {
        self.asked.lock().unwrap().push(self.name);
        (self.answer)()
    }
}

#[test]
fn backends_are_asked_by_priority_then_name_until_one_does_not_decline() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let backend = |name, priority, answer| Asked { name, priority, answer, asked: Arc::clone(&asked) };
    let takes = || Ok(Some(Box::new(Kept("second".into(), vec![0; 4])) as Box<dyn DeviceStorage>));
    let declines = || Ok(None);
    let fails = || Err(ptser::Error::backend("it broke"));
    let asked_by = |registry: &Registry, ask: &dyn Fn(&Registry)| {
        ask(registry);
        std::mem::take(&mut *asked.lock().unwrap())
    };
    let with = |answer| {
        // Added in no order, beside what is linked; the cpu's own priority is 10.
        let backends = [
            backend("never", 9, takes),
            backend("second", -3, answer),
            backend("b", i32::MIN, declines),
            backend("third", 9, takes),
            backend("a", i32::MIN, declines),
        ];
        backends.into_iter().try_fold(registry(), Registry::with).unwrap()
    };
    let checkpoint = Checkpoint::from_bytes(at_locations(&["cpu"])).unwrap();
    let restore = |registry: &Registry| drop(checkpoint.restore(registry, &MapLocation::recorded()));
    let kept = Kept("x".into(), Vec::new());
    let tag = |registry: &Registry| drop(registry.tag(&kept));
    assert_eq!(asked_by(&with(takes), &restore), ["a", "b", "second"]);
    assert_eq!(asked_by(&with(takes), &tag), ["a", "b", "second"]);
    assert_eq!(asked_by(&with(declines), &restore), ["a", "b", "second", "never"]);
    assert_eq!(asked_by(&with(declines), &tag), ["a", "b", "second", "never"]);
    // An error is an answer.
    assert_eq!(asked_by(&with(fails), &restore), ["a", "b", "second"]);
    assert_eq!(refusal(&with(fails), "cpu"), "it broke");
}

#[test]
fn a_backend_of_a_lower_number_overrides_restoring_and_tagging() {
    let checkpoint = Checkpoint::from_bytes(at_locations(&["cpu"])).unwrap();
    let overridden = registry().with(Usurper).unwrap();
    assert_eq!(overridden.backends().next().map(Backend::name), Some("usurper"));
    let restored = checkpoint.restore(&overridden, &MapLocation::recorded()).unwrap();
    assert_eq!(places(&restored), ["usurped"]);
    // What the registry of the host has placed, too.
    let restored = checkpoint.restore(&registry(), &MapLocation::recorded()).unwrap();
    let (_, placed) = restored.iter().next().unwrap();
    assert_eq!(overridden.tag(&**placed).unwrap().as_str(), "usurped");
    assert_eq!(registry().tag(&**placed).unwrap().as_str(), "cpu");
}

#[test]
fn two_backends_of_one_name_are_an_error() {
    let twice = registry().with(Elsewhere("here")).unwrap().with(Elsewhere("here"));
    for (added, name) in [(registry().with(Elsewhere("cpu")), "cpu"), (twice, "here")] {
        let error = added.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(error.to_string().starts_with(&format!("two backends are named {name:?}; ")), "{error}");
    }
}

/// A registry is a value: what is added to one is in no other.
#[test]
fn nothing_global_changes_when_a_backend_is_added() {
    let before = format!("{:?}", registry());
    let with = registry().with(Elsewhere("here")).unwrap();
    assert_eq!(format!("{:?}", with.clone()), format!("{with:?}"));
    assert!(format!("{with:?}").contains("(50, \"here\")"));
    assert_eq!(format!("{:?}", registry()), before);
    assert!(registry().backend(&"here:1".into()).is_none());
}

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

/// A backend of three devices.
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
        self.validate(location)?;
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

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().is::<ptser::CpuStorage>().then(|| "usurped".into())
    }

    fn availability(&self) -> Availability {
        Availability::Devices(1)
    }

    fn restore(&self, _: HostStorage<'_>, location: &Location) -> Result<Option<Box<dyn DeviceStorage>>> {
        Ok((location.as_str() == "cpu")
            .then(|| Box::new(Kept(Location::new("usurped"), Vec::new())) as Box<dyn DeviceStorage>))
    }
}
