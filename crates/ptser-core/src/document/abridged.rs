//! Reading in less time: plain tensors are a node each, and what their calls are made of is left out. It is wanted when
//! the document is written; the pickle is then read again, over the same storages.

use std::sync::OnceLock;

use foldhash::HashMap;

use super::{Document, Rules};
use crate::error::{Reason, Result};
use crate::limits::{Limits, Objects};
use crate::memory::extend;
use crate::pickle::{self, Encoding};
use crate::storage::Storage;
use crate::torch::{self, Faults, Given, Globals, Known, StorageRef, StorageTable};

/// How all of a pickle is read whose graph is abridged; and what came of it, once it was asked for.
pub(super) struct InFull {
    globals: Globals,
    encoding: Encoding,
    limits: Limits,
    document: OnceLock<Document>,
}

impl Document {
    /// As [`read`](Self::read), in less time: the graph is abridged where the pickle allows it. What is wrong with a
    /// pickle is told as `read` tells it.
    pub(crate) fn read_abridged(
        pickle: Vec<u8>,
        rules: Rules<'_>,
        table: &mut dyn StorageTable,
    ) -> Result<Self> {
        Self::abridged(pickle, rules, table).or_else(|pickle| Self::read(pickle, rules, table))
    }

    fn abridged(pickle: Vec<u8>, rules: Rules<'_>, table: &mut dyn StorageTable) -> Result<Self, Vec<u8>> {
        // What is damaged is let pass, where it is, by whoever tells it.
        let Rules { globals, encoding, faults: _, limits, objects } = rules;
        let mut graph = pickle::run_abridged(pickle, torch::rename, torch::makes_views, encoding, objects)?;
        // What lies in the bytes of a pickle is paid for whenever it is opened.
        let nests =
            graph.symbols().iter().any(|symbol| torch::known(&symbol.full) == Some(Known::LoadFromBytes));
        if nests || globals.check(graph.symbols()).is_err() {
            return Err(graph.into_pickle());
        }
        graph.see_through(torch::is_type_tag);
        let interpretation = match torch::interpret(&graph, globals, Faults::Refused, limits, table) {
            Ok(interpretation) => interpretation,
            Err(_) => return Err(graph.into_pickle()),
        };
        objects.add(graph.count());
        let in_full = || {
            let (globals, limits, document) = (globals.clone(), limits.clone(), OnceLock::new());
            Box::new(InFull { globals, encoding, limits, document })
        };
        let in_full = (graph.views().len() > 0).then(in_full);
        Ok(Self { graph, interpretation, nesting: limits.nesting, in_full })
    }

    /// The same with nothing left out, over the same storages: what is written of it. It is kept.
    ///
    /// # Errors
    /// `Io` where memory is short.
    pub(crate) fn in_full(&self) -> Result<&Self> {
        let Some(in_full) = &self.in_full else { return Ok(self) };
        if let Some(document) = in_full.document.get() {
            return Ok(document);
        }
        let InFull { globals, encoding, limits, document } = &**in_full;
        let (faults, objects) = (Faults::Refused, Objects::within(limits));
        let rules = Rules { globals, encoding: *encoding, faults, limits, objects: &objects };
        // Those that persistent ids name come first, and what has no key comes behind them.
        let storages = self.interpretation.storages.iter().rev();
        let mut again = Again(storages.map(|storage| (storage.key(), storage)).collect());
        let mut pickle = Vec::new();
        extend(&mut pickle, self.graph.pickle().iter().copied())?;
        let whole = Self::read(pickle, rules, &mut again)?;
        Ok(document.get_or_init(|| whole))
    }
}

/// The storages of a document, by their keys.
struct Again<'d>(HashMap<&'d str, &'d Storage>);

impl StorageTable for Again<'_> {
    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        let storage = self.0.get(reference.key).copied().cloned().map(Given::from);
        storage.ok_or_else(|| Reason::MissingRecord { name: reference.key.to_owned() }.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fmt::Write;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::format::{ZipFile, ZipStorages};
    use crate::listing::Listing;
    use crate::load::LoadOptions;
    use crate::object::Object;
    use crate::save::SaveOptions;
    use crate::source::MemorySource;
    use crate::tensor::Tensor;
    use crate::torch::{PidDialect, outline_document};
    use crate::value::Value;
    use crate::{ByteOrder, DType};

    /// Everything that can be seen of a document, and the pickle that would be written of it.
    fn look(document: &Document, limits: &Limits) -> String {
        let mut seen = String::new();
        let listing = Listing::of(document, document.graph.root(), limits).unwrap();
        for entry in listing.all(document) {
            let tensor =
                entry.tensor().map(|tensor| (tensor, tensor.storage_offset(), tensor.requires_grad()));
            let storage = entry.tensor().and_then(|tensor| tensor.storage().cloned());
            let _ = writeln!(seen, "{} {tensor:?} {storage:?} {:?}", entry.name(), entry.error());
        }
        let mut waiting = VecDeque::from([Value { document, id: document.graph.root() }]);
        let mut numbers = HashMap::default();
        for _ in 0..2_000 {
            let Some(value) = waiting.pop_front() else { break };
            let new = numbers.len();
            let number = numbers.entry(value.id()).or_insert(new);
            let _ = writeln!(seen, "{number} {:?} {:?} {:?}", value.kind(), value.class(), value.source());
            waiting.extend(value.states());
            waiting.extend(value.children().unwrap().map(|(_, child)| child));
        }
        // What may be spent on it.
        let _ = writeln!(seen, "{} paths, weight {}", listing.all(document).len(), document.graph.weight());
        let symbols = document.graph.symbols().iter().map(|symbol| (&symbol.full, symbol.at));
        let storages = document.interpretation.storages.iter().map(Storage::key);
        let _ = writeln!(seen, "{:?} {:?}", symbols.collect::<Vec<_>>(), storages.collect::<Vec<_>>());
        let outline = document.in_full().and_then(|document| outline_document(document, PidDialect::Zip));
        let written = outline
            .and_then(|mut outline| pickle::write(&mut outline.graph, 4, outline.literals, torch::unrename));
        let _ = writeln!(seen, "{:?}", written.map_err(|error| error.to_string()));
        seen
    }

    /// A pickle read both ways: what is seen, how many objects were counted, and whether it was abridged.
    fn both(
        file: &Arc<ZipFile>,
        pickle: &[u8],
        globals: &Globals,
        faults: Faults,
        limits: &Limits,
    ) -> (bool, [String; 2]) {
        type Read = fn(Vec<u8>, Rules<'_>, &mut dyn StorageTable) -> Result<Document>;
        let mut abridged = false;
        let seen = [Document::read as Read, Document::read_abridged as Read].map(|read| {
            let objects = Objects::within(limits);
            let rules = Rules { globals, encoding: Encoding::Auto, faults, limits, objects: &objects };
            let mut table = ZipStorages::new(Arc::clone(file), "data", limits);
            let document = read(pickle.to_vec(), rules, &mut table);
            abridged |= document.as_ref().is_ok_and(|document| document.in_full.is_some());
            let seen = document.map_or_else(|error| format!("{error:?}"), |document| look(&document, limits));
            format!("{seen}{} objects", objects.used())
        });
        (abridged, seen)
    }

    /// Of every archive among the fixtures, and of it with a few bytes of its pickle changed.
    #[test]
    fn nothing_is_seen_of_it() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        let mut folders = vec![fixtures];
        let (mut seed, mut read, mut abridged) = (1_u64, 0, 0);
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        while let Some(folder) = folders.pop() {
            let mut paths: Vec<_> =
                std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            folders.extend(paths.iter().filter(|path| path.is_dir()).cloned());
            for path in paths.iter().filter(|path| path.is_file()) {
                let source = Arc::new(MemorySource(std::fs::read(path).unwrap()));
                let options = LoadOptions::new();
                let Ok(file) = ZipFile::open(source, options.terms(false)) else { continue };
                let Ok(pickle) = file.pickle("data.pkl", &Limits::default()) else { continue };
                let file = Arc::new(file);
                for round in 0..30 {
                    let mut pickle = pickle.clone();
                    for _ in 0..round.min(1) + round / 20 {
                        let (at, from) = (random(pickle.len()), random(pickle.len()));
                        let len = 1 + random(40).min(pickle.len() - from - 1);
                        match random(6) {
                            0 => pickle[at] = pickle[from],
                            1 => pickle[at] = u8::try_from(random(256)).unwrap(),
                            2 => drop(pickle.remove(at)),
                            3 => pickle[at] = pickle[at].wrapping_add(1),
                            4 => pickle[at] = pickle[at].wrapping_sub(1),
                            _ => {
                                let piece = pickle[from..from + len].to_vec();
                                drop(pickle.splice(at..at, piece));
                            }
                        }
                    }
                    let globals = if round % 2 == 0 { Globals::inert() } else { Globals::weights_only() };
                    let faults = if round % 3 == 0 { Faults::Kept } else { Faults::Refused };
                    let (is_abridged, [full, short]) =
                        both(&file, &pickle, &globals, faults, &Limits::default());
                    for (full, short) in full.lines().zip(short.lines()) {
                        assert_eq!(full, short, "{} {round}", path.display());
                    }
                    assert_eq!(full.len(), short.len(), "{} {round}", path.display());
                    read += 1;
                    abridged += u32::from(is_abridged);
                }
            }
        }
        assert!(abridged > 500, "{abridged} of {read}");
    }

    /// What calls share: a function, a kind, a class, a location and hooks, with the first numbers of the memo.
    const SHARED: &[u8] = b"\x80\x02(ctorch._utils\n_rebuild_tensor_v2\nq\x00X\x07\0\0\0storageq\x01\
        ctorch\nFloatStorage\nq\x02X\x03\0\0\0cpuq\x03ccollections\nOrderedDict\nq\x041";

    /// A call on a storage `0` of six numbers, with the same sizes and strides.
    fn view(sizes: &[u8]) -> Vec<u8> {
        let storage = b"h\x00((h\x01h\x02X\x01\0\0\x000h\x03K\x06tQK\x00";
        [storage.as_slice(), sizes, sizes, b"\x89h\x04)RtR"].concat()
    }

    /// What is seen of a pickle, which is the same both ways: an archive's with a storage of six numbers.
    fn seen_of(pickle: &[u8]) -> String {
        seen_and_abridged(pickle).0
    }

    /// And whether it was abridged.
    fn seen_and_abridged(pickle: &[u8]) -> (String, bool) {
        let storage = Storage::in_memory(Some(DType::Float32), ByteOrder::Little, vec![0; 24]);
        let tensor = Tensor::contiguous(storage, DType::Float32, [6]).unwrap();
        let bytes = SaveOptions::new().to_bytes(&Object::from(tensor)).unwrap();
        let file = ZipFile::open(Arc::new(MemorySource(bytes)), LoadOptions::new().terms(false)).unwrap();
        let (is_abridged, [full, short]) =
            both(&Arc::new(file), pickle, &Globals::inert(), Faults::Refused, &Limits::default());
        for (full, short) in full.lines().zip(short.lines()) {
            assert_eq!(full, short);
        }
        assert_eq!(full.len(), short.len());
        (full, is_abridged)
    }

    /// Whatever the memo takes is asked for behind calls, and as the key of one.
    #[test]
    fn each_number_of_the_memo_is_what_it_is() {
        let mut pickle = [SHARED, b"]("].concat();
        let mut next = 5_u32;
        let mut put = |pickle: &mut Vec<u8>, what: &[u8]| {
            pickle.extend(what);
            match u8::try_from(next) {
                Ok(next) => pickle.extend([b'q', next]),
                Err(_) => pickle.extend([&b"r"[..], &next.to_le_bytes()].concat()),
            }
            next += 1;
            next - 1
        };
        let mut key = 0_u32;
        for call in 0..50 {
            pickle.extend(b"h\0((h\x01h\x02");
            match call % 5 {
                4 => pickle.extend([&b"j"[..], &key.to_le_bytes()].concat()),
                _ => key = put(&mut pickle, b"X\x01\0\0\x000"),
            }
            put(&mut pickle, b"h\x03K\x06t");
            pickle.extend(b"QK\0");
            for _ in 0..2 {
                match call % 7 {
                    6 => pickle.extend(b")"),
                    _ => drop(put(&mut pickle, b"K\x01\x85")),
                }
            }
            for made in [&b"\x89h\x04)R"[..], b"t", b"R"] {
                put(&mut pickle, made);
            }
        }
        let mut abridged = 0;
        for number in (0..next + 2).map(u32::to_le_bytes) {
            for [before, behind] in [[&b""[..], b""], [b"h\0((h\x01h\x02", b"h\x03K\x06tQK\0))\x89h\x04)RtR"]]
            {
                let (_, is_abridged) =
                    seen_and_abridged(&[&pickle, before, b"j", &number, behind, b"e."].concat());
                abridged += u32::from(is_abridged);
            }
        }
        // Behind the calls what they share, the tensors and the keys; as the key of a call the keys alone.
        assert_eq!(abridged, 5 + 50 + 2 * 40);
    }

    /// Paths to a view, far more than are walked.
    #[test]
    fn as_many_paths_are_walked() {
        let mut pickle = [SHARED, &view(b")"), b"q\x05"].concat();
        for level in 5_u8..10 {
            pickle.extend([b"](".as_slice(), &[b'h', level].repeat(16), b"eq", &[level + 1]].concat());
        }
        pickle.push(b'.');
        let seen = seen_of(&pickle);
        assert!(seen.contains(" paths") && !seen.contains("1048576 paths"), "{seen}");
    }

    /// States that are shared so often that looking at them takes nearly all that may be spent, or a bit more.
    #[test]
    fn as_much_may_be_spent() {
        let views = view(b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t").repeat(200);
        let entries: Vec<u8> =
            (0_u16..1000).flat_map(|key| [b"M", &key.to_le_bytes()[..], b"N"].concat()).collect();
        let state = [b"}(", entries.as_slice(), b"uq\x05"].concat();
        let mut ends = [0, 0];
        for objects in 603..609 {
            let objects = b"h\x04)Rh\x05b".repeat(objects);
            let seen = seen_of(&[SHARED, b"](", &views, &state, &objects, b"e."].concat());
            ends[usize::from(seen.contains("so often"))] += 1;
        }
        assert_eq!(ends, [3, 3]);
    }

    /// More axes than PyTorch takes, behind so many views that there is room for the sizes of that one, too.
    #[test]
    fn too_many_axes_are_refused_behind_many_views() {
        for axes in [8, 9, 64, 65, 70, 255, 256] {
            let sizes = [b"(".as_slice(), &b"K\x01".repeat(axes), b"t"].concat();
            let pickle = [SHARED, b"](", &view(b"K\x01\x85").repeat(1000), &view(&sizes), b"e."].concat();
            assert_eq!(seen_of(&pickle).contains("dimensions, more than 64"), axes > 64, "{axes}");
        }
    }

    /// The key of a call, asked for as such, is one object, and is compared once, however many dicts have it.
    #[test]
    fn a_key_that_is_asked_for_again_is_the_same_object() {
        let keyed = [&view(b")")[..13], b"0q\x05", &view(b")")[14..]].concat();
        let seen = seen_of(&[SHARED, b"](", &keyed, b"h\x05h\x05h\x03h\x03e."].concat());
        assert!(seen.contains("2 Str(\"0\") None None\n2 Str(\"0\") None None\n3 Str(\"cpu\")"), "{seen}");
    }

    /// A number of the memo that ends as `function(object, state)` does, and a view that is dropped behind it.
    #[test]
    fn a_view_that_is_dropped_is_no_call_that_sets_a_state() {
        let spoof =
            [&view(b")"), b"r\0\0\x86\x52cmine\nC\n)Rq\x50(h\x50K\x071h\x50K\x07\x86q\x51h\x50".as_slice()];
        seen_of(&[SHARED, b"](", &spoof.concat(), b"j\0\0\x86\x520e."].concat());
    }

    /// Each deflated record counts once, also that which is one too many.
    #[test]
    fn deflated_records_are_counted_once() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/zip/deflated.pt");
        let source = Arc::new(MemorySource(std::fs::read(path).unwrap()));
        let file = Arc::new(ZipFile::open(source, LoadOptions::new().terms(false)).unwrap());
        let pickle = file.pickle("data.pkl", &Limits::default()).unwrap();
        let mut refused = 0;
        for bytes in 0..2_000 {
            let limits = Limits::default().inflated_bytes(bytes);
            let (_, [full, short]) = both(&file, &pickle, &Globals::weights_only(), Faults::Refused, &limits);
            assert_eq!(full, short);
            refused += u32::from(full.contains("inflated_bytes"));
        }
        assert!(refused > 10, "{refused}");
    }

    /// What a program says of the meta device needs no record, nor a key; storages of numbers have none either.
    #[test]
    fn a_storage_without_a_key_stays_the_one_that_it_was() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/torchscript/traced.pt");
        let source = Arc::new(MemorySource(std::fs::read(path).unwrap()));
        let file = Arc::new(ZipFile::open(source, LoadOptions::new().terms(false)).unwrap());
        let meta = b"ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\0\0\0storageq\x01ctorch\nFloatStorage\nq\x02\
            X\0\0\0\0q\x03X\x04\0\0\0metaq\x04K\x06tQK\0K\x06\x85K\x01\x85\x89ccollections\nOrderedDict\nq\x05)RtR";
        let again = b"h\x00((h\x01h\x02h\x03h\x04K\x06tQK\0K\x06\x85K\x01\x85\x89h\x05)RtR";
        let numbers = b"h\x02](G\0\0\0\0\0\0\0\0e\x85R";
        let pickle = [b"\x80\x02](".as_slice(), meta, again, numbers, b"e."].concat();
        let (is_abridged, [full, short]) =
            both(&file, &pickle, &Globals::inert(), Faults::Refused, &Limits::default());
        assert!(is_abridged);
        assert_eq!(full, short);
    }
}
