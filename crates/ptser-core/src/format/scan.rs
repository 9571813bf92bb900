//! Lists the globals that a checkpoint names, in every pickle that loading it would run, without opening it: what
//! a scanner needs, also where the file is damaged or an attack.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::Format;
use super::container::{DEPTH_MAX, Terms};
use super::legacy::{LegacyStream, is_magic, take};
use super::sniff::{Sniffed, sniff};
use super::tar::{PickleAt, TarFile};
use super::zip::{CONSTANTS, PICKLE, open_archive, read_pickle};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::limits::{Limits, Objects};
use crate::pickle::{self, Graph, Node, NodeId};
use crate::source::{MemorySource, Source};
use crate::storage::fill_vec;
use crate::tar;
use crate::torch::{self, Globals, Known, Verdict, known};

/// The globals that a checkpoint names, found without opening it.
///
/// ```no_run
/// let scan = ptser_core::Checkpoint::unsafe_globals("model.pt")?;
/// for global in scan.refused() {
///     println!("{} {:?}, byte {}", global.name, global.verdict, global.offset);
/// }
/// assert!(scan.is_safe(), "{:?}", scan.error);
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct GlobalScan {
    /// The container.
    pub format: Format,
    /// Every global, allowed ones too, in order of first appearance, each name once.
    pub globals: Vec<ScannedGlobal>,
    /// The first damage, or the first thing that opening would refuse beside globals. Globals behind it are listed as
    /// far as opcodes can be told apart; there may be others.
    pub error: Option<Error>,
}

/// A global that a checkpoint names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScannedGlobal {
    /// `module.name`, after the Python 2 names are mapped. A part that only running the pickle would tell is `?`;
    /// one that stands in the registry of the process that loads it is `copyreg extension N`.
    pub name: String,
    /// What the policy says of it. What is not spelled out is never allowed.
    pub verdict: Verdict,
    /// The record of the archive whose pickle names it first; none in streams and pickles by themselves. Of a
    /// checkpoint inside another, the way to it: `data.pkl > data.pkl`, where what is no record is `pickle`.
    pub record: Option<String>,
    /// The byte of the opcode that names it first, in that record, or else in the file.
    pub offset: u64,
}

impl GlobalScan {
    /// The globals that the policy does not allow, as PyTorch's `get_unsafe_globals_in_checkpoint` lists them, and
    /// those of blocked modules.
    pub fn refused(&self) -> impl Iterator<Item = &ScannedGlobal> {
        self.globals.iter().filter(|global| !matches!(global.verdict, Verdict::Allowed | Verdict::Inert))
    }

    /// Whether all of the file was read, and every global is one that the policy lets through.
    pub fn is_safe(&self) -> bool {
        self.error.is_none() && self.refused().next().is_none()
    }
}

/// Scans whatever begins at the source's first byte.
///
/// # Errors
/// `Malformed` where it is no checkpoint or its container is damaged, `LimitExceeded`, `Io`.
pub(crate) fn scan(source: Arc<dyn Source>, terms: Terms<'_>) -> Result<GlobalScan> {
    let Terms { globals, limits, .. } = terms;
    let mut scanner = Scanner {
        policy: globals,
        limits,
        script: false,
        found: Vec::new(),
        met: HashSet::new(),
        error: None,
        waiting: VecDeque::new(),
        left: 1 << 20,
        objects: Objects::within(limits),
    };
    let format = scanner.container(&source, &Place::default())?;
    while let Some((bytes, place)) = scanner.waiting.pop_front() {
        let source: Arc<dyn Source> = Arc::new(MemorySource(bytes));
        if let Err(error) = scanner.container(&source, &place) {
            scanner.note(error, &place);
        }
    }
    Ok(GlobalScan { format, globals: scanner.found, error: scanner.error })
}

/// Where a pickle lies, or an opcode of it.
#[derive(Debug, Clone, Default)]
struct Place {
    /// The pickle that the checkpoint lies in, if it lies in one.
    around: Option<String>,
    record: Option<String>,
    /// The first byte, in the record or else in the file.
    offset: u64,
    /// How many checkpoints it is inside of.
    depth: usize,
}

impl Place {
    fn in_record(&self, record: &str) -> Self {
        Self { record: Some(record.to_owned()), ..self.clone() }
    }

    fn at(&self, offset: u64) -> Self {
        Self { offset, ..self.clone() }
    }

    /// The place of a checkpoint in the bytes of this pickle.
    fn inside(&self) -> Self {
        let around = self.name().unwrap_or_else(|| UNNAMED.to_owned());
        Self { around: Some(around), record: None, offset: 0, depth: self.depth.saturating_add(1) }
    }

    fn name(&self) -> Option<String> {
        match (&self.around, &self.record) {
            (None, record) => record.clone(),
            (Some(around), record) => Some(format!("{around} > {}", record.as_deref().unwrap_or(UNNAMED))),
        }
    }
}

/// A pickle that is no record.
const UNNAMED: &str = "pickle";

struct Scanner<'s> {
    policy: &'s Globals,
    limits: &'s Limits,
    /// Whether classes of the file's own program are to be expected.
    script: bool,
    found: Vec<ScannedGlobal>,
    /// The names of `found`.
    met: HashSet<String>,
    error: Option<Error>,
    /// Checkpoints in the bytes of others.
    waiting: VecDeque<(Vec<u8>, Place)>,
    /// Bytes of such checkpoints that may still be looked at: pickles can name the same bytes often, and so can each
    /// of those in them.
    left: usize,
    /// Of all pickles.
    objects: Objects,
}

/// Pickles of a legacy stream: the magic number, the protocol, the system, the object, the storages' keys.
const LEGACY_PICKLES: usize = 5;

impl Scanner<'_> {
    fn container(&mut self, source: &Arc<dyn Source>, place: &Place) -> Result<Format> {
        self.script = false;
        let sniffed = sniff(&**source, self.limits);
        // To PyTorch, all but an archive from the first byte on is a pickle, and so are the bytes of a tar archive
        // that is no file of its own.
        let front = match &sniffed {
            Ok(Sniffed::Zip) => !begins_with_record(&**source),
            Ok(Sniffed::Tar) => true,
            Ok(Sniffed::Legacy | Sniffed::Safetensors | Sniffed::Pickle) => false,
            Err(error) => matches!(error.reason(), Reason::NotACheckpoint { .. }),
        };
        let found = front && self.front(source, place)?;
        let format = match sniffed {
            Ok(Sniffed::Zip) => self.zip(source, place),
            Ok(Sniffed::Tar) => self.tar(source, place),
            Ok(Sniffed::Safetensors) => Ok(Format::Safetensors),
            Ok(Sniffed::Legacy | Sniffed::Pickle) => {
                let legacy = self.stream(source, place)?;
                Ok(if legacy { Format::Legacy } else { Format::Pickle })
            }
            Err(error) => Err(error),
        };
        match format {
            Err(error) if found => {
                self.note(error, place);
                Ok(Format::Pickle)
            }
            other => other,
        }
    }

    fn zip(&mut self, source: &Arc<dyn Source>, place: &Place) -> Result<Format> {
        let archive = open_archive(&**source, self.limits)?;
        self.script = archive.find(CONSTANTS).is_some();
        for record in [PICKLE, CONSTANTS] {
            if archive.find(record).is_none() {
                continue;
            }
            let place = place.in_record(record);
            match read_pickle(&archive, &**source, record, self.limits, false) {
                Ok(pickle) => drop(self.pickle(pickle, &place)),
                Err(error) => self.note_or_fail(error, &place)?,
            }
        }
        Ok(if self.script { Format::TorchScript } else { Format::Zip })
    }

    fn tar(&mut self, source: &Arc<dyn Source>, place: &Place) -> Result<Format> {
        let members = tar::members(&**source)?;
        let limits = self.limits;
        let opened = TarFile::open(source, limits, &mut |at: &PickleAt| {
            let place = place.in_record(at.member).at(at.at.saturating_sub(at.member_at));
            let (pickle, end) = self.take(source, at.at, &place)?;
            let graph = self.pickle(pickle, &place);
            Ok((graph, end.ok_or_else(|| Reason::Archive(format!("a pickle of {} is cut", at.member)))?))
        });
        if let Err(error) = opened {
            self.note_or_fail(error, place)?;
        }
        if let Some(member) = members.iter().find(|member| member.name == "pickle") {
            let place = place.in_record("pickle");
            let (pickle, _) = self.take(source, member.at, &place)?;
            self.pickle(pickle, &place);
        }
        Ok(Format::Tar)
    }

    /// A pickle, and those behind it where it is the magic number of a legacy stream.
    fn stream(&mut self, source: &Arc<dyn Source>, place: &Place) -> Result<bool> {
        let mut at = 0;
        for step in 0..LEGACY_PICKLES {
            let place = place.at(at);
            let (pickle, end) = self.take(source, at, &place)?;
            let graph = self.pickle(pickle, &place);
            if step == 0 && !is_magic(&graph) {
                return Ok(false);
            }
            match end {
                Some(end) => at = end,
                None => break,
            }
        }
        Ok(true)
    }

    /// What an unpickler finds in bytes that are something else: whether it finds any global.
    fn front(&mut self, source: &Arc<dyn Source>, place: &Place) -> Result<bool> {
        let (before, error) = (self.found.len(), self.error.take());
        let outcome = self.stream(source, place);
        // Its damage is none of the checkpoint's.
        self.error = error;
        outcome.map(|_| self.found.len() > before)
    }

    /// One pickle, and where it ends; a damaged one as far as opcodes can be told apart, and no end.
    fn take(&mut self, source: &Arc<dyn Source>, at: u64, place: &Place) -> Result<(Vec<u8>, Option<u64>)> {
        let limit = self.limits.pickle_bytes;
        let error = match take(&**source, at, limit) {
            Ok((pickle, end)) => return Ok((pickle, Some(end))),
            Err(error) => error,
        };
        let cut = error.offset().unwrap_or(at).saturating_sub(at).min(limit);
        self.note_or_fail(error, place)?;
        let size = usize::try_from(cut).unwrap_or(0);
        Ok((fill_vec(size, |buf| Ok(source.read_uninit_at(buf, at)?))?, None))
    }

    fn pickle(&mut self, pickle: Vec<u8>, place: &Place) -> Graph {
        let size = pickle.len();
        let scan = pickle::scan(pickle, torch::rename, &self.objects);
        for (symbol, spelled) in scan.names() {
            let at = u64::try_from(symbol.at).unwrap_or(u64::MAX);
            self.global(&symbol.module, &symbol.full, spelled, &place.at(place.offset.saturating_add(at)));
        }
        if let Some(error) = scan.error {
            self.note(error.moved(place.offset), place);
        }
        if place.depth == 0 {
            self.left = self.left.saturating_add(size.saturating_mul(DEPTH_MAX));
        }
        for bytes in inside(&scan.graph) {
            let left = self.left.checked_sub(bytes.len()).filter(|_| place.depth < DEPTH_MAX);
            let Some(left) = left else {
                let what = "too many checkpoints inside each other to look at all of them";
                self.note(Reason::Object(what.into()).into(), place);
                break;
            };
            self.left = left;
            self.waiting.push_back((bytes, place.inside()));
        }
        scan.graph
    }

    fn global(&mut self, module: &str, full: &str, spelled: bool, place: &Place) {
        if !self.met.insert(full.to_owned()) {
            return;
        }
        let verdict = match self.policy.verdict(module, full) {
            Verdict::Allowed | Verdict::Inert if !spelled => Verdict::Unlisted,
            Verdict::Unlisted if spelled && self.script && is_of_script(module) => Verdict::Inert,
            verdict => verdict,
        };
        let (record, offset) = (place.name(), place.offset);
        self.found.push(ScannedGlobal { name: full.to_owned(), verdict, record, offset });
    }

    fn note(&mut self, error: Error, place: &Place) {
        self.error.get_or_insert_with(|| match place.name() {
            Some(record) => error.in_record(&record),
            None => error,
        });
    }

    /// Notes damage; what is no damage ends the scan.
    fn note_or_fail(&mut self, error: Error, place: &Place) -> Result<()> {
        let damage = matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported);
        if !damage || matches!(error.reason(), Reason::NotACheckpoint { .. }) {
            return Err(error);
        }
        self.note(error, place);
        Ok(())
    }
}

/// What the serializer of TorchScript names by itself; its reader imports nothing.
fn is_of_script(module: &str) -> bool {
    module == "__torch__" || module.starts_with("__torch__.") || module == "torch.jit._pickle"
}

/// Checkpoints that lie in the pickle as bytes, where it can ask for their loading.
fn inside(graph: &Graph) -> Vec<Vec<u8>> {
    let is_known = |id: NodeId, wanted: Known| match graph.node(id) {
        Node::Global(symbol) => graph.symbol(symbol).and_then(|symbol| known(&symbol.full)) == Some(wanted),
        _ => false,
    };
    if !graph.symbols().iter().any(|symbol| known(&symbol.full) == Some(Known::LoadFromBytes)) {
        return Vec::new();
    }
    let first = |object: &pickle::Object| graph.members(object.args).first().copied();
    let mut loaded = HashSet::new();
    for object in graph.objects().iter().filter(|object| is_known(object.callable, Known::LoadFromBytes)) {
        let mut argument = first(object);
        // Protocol 2 writes bytes as text that is to be encoded.
        if let Some((_, inner)) = argument.and_then(|id| graph.object(id))
            && is_known(inner.callable, Known::CodecsEncode)
        {
            argument = first(inner);
        }
        loaded.extend(argument);
    }
    let found = graph.ids().filter_map(|id| {
        let bytes = match graph.node(id) {
            Node::Bytes(span) | Node::ByteArray(span) => graph.bytes(span).to_vec(),
            Node::Str(span) => latin1(graph.text(span), loaded.contains(&id))?,
            _ => return None,
        };
        // The bytes may have been brought to the call by another way.
        (loaded.contains(&id) || begins_container(&bytes)).then_some(bytes)
    });
    found.collect()
}

/// Text as the bytes that it was made of, if it was.
fn latin1(text: &str, whatever: bool) -> Option<Vec<u8>> {
    let begins = text.starts_with("PK\x03\x04") || text.starts_with('\u{80}');
    if !begins && !whatever {
        return None;
    }
    text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect()
}

fn begins_container(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || matches!(LegacyStream::begins(&MemorySource(bytes), 0), Ok(true))
}

fn begins_with_record(source: &dyn Source) -> bool {
    let mut head = [0; 4];
    source.read_exact_at(&mut head, 0).is_ok() && head == *b"PK\x03\x04"
}
