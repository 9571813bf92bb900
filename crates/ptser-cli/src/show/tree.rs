//! Values as an indented tree, one a line; what is shared is shown once.

use std::collections::HashMap;
use std::io::{self, Write};

use owo_colors::OwoColorize;
use ptser::{PathElement, Value, ValueKind};

use super::Trouble;
use crate::{describe, human};

/// Levels that are shown at most: beyond these a line is mostly indentation. PATH goes on from there.
pub(super) const DEEPEST: u64 = 64;
/// Members of one container that are shown unless all are asked for.
const MEMBERS: usize = 1000;
/// Sequences of plain values stand on one line of so many characters.
const LINE: usize = 100;

/// How much is shown.
pub(super) struct Tree {
    pub(super) depth: u64,
    pub(super) all: bool,
}

/// The way to a value, and whether it is a key that is text.
type Step = (PathElement, bool);

/// What is still to be written.
enum Task<'c> {
    Value { value: Value<'c>, step: Option<Step>, parent: usize, level: u64 },
    More { count: usize, level: u64 },
}

impl Tree {
    /// A value and what is in it.
    pub(super) fn write(&self, out: &mut impl Write, value: Value<'_>, name: &str) -> Result<(), Trouble> {
        self.walk(out, vec![Task::Value { value, step: None, parent: 0, level: 0 }], name)
    }

    /// What is in a value.
    pub(super) fn write_below(
        &self,
        out: &mut impl Write,
        value: Value<'_>,
        name: &str,
    ) -> Result<(), Trouble> {
        let mut tasks = Vec::new();
        self.open(value, value.children()?, 0, 1, &mut tasks);
        self.walk(out, tasks, name)
    }

    fn walk(&self, out: &mut impl Write, mut tasks: Vec<Task<'_>>, name: &str) -> Result<(), Trouble> {
        let mut steps = vec![(0, name.to_owned())];
        let mut met: HashMap<usize, usize> = HashMap::new();
        while let Some(task) = tasks.pop() {
            let (value, step, parent, level) = match task {
                Task::Value { value, step, parent, level } => (value, step, parent, level),
                Task::More { count, level } => {
                    indent(out, level)?;
                    writeln!(out, "{}", format_args!("and {} more", human::number(count)).dimmed())?;
                    continue;
                }
            };
            indent(out, level)?;
            let place = match &step {
                None => 0,
                Some(step) => {
                    write!(out, "{}: ", spelled(step))?;
                    steps.push((parent, step.0.to_string()));
                    steps.len() - 1
                }
            };
            if let Some(&first) = met.get(&value.id()) {
                writeln!(out, "{}", format_args!("the same as {}", path(&steps, first)).dimmed())?;
                continue;
            }
            let children = value.children()?;
            if children.len() == 0 {
                writeln!(out, "{}", leaf(value))?;
                continue;
            }
            met.insert(value.id(), place);
            if is_plain(value) {
                let kind = human::name(value.type_name());
                writeln!(out, "{kind} {}", human::shorten(&value.to_string(), LINE))?;
                continue;
            }
            writeln!(out, "{}", describe::summary(value))?;
            if level + 1 > self.depth {
                tasks.push(Task::More { count: children.len(), level: level + 1 });
                continue;
            }
            self.open(value, children, place, level + 1, &mut tasks);
        }
        Ok(())
    }

    /// The first of them last, as they are taken from the end.
    fn open<'c>(
        &self,
        of: Value<'c>,
        children: impl ExactSizeIterator<Item = (PathElement, Value<'c>)>,
        parent: usize,
        level: u64,
        tasks: &mut Vec<Task<'c>>,
    ) {
        let count = children.len();
        let shown = if self.all { count } else { count.min(MEMBERS) };
        if count > shown {
            tasks.push(Task::More { count: count - shown, level });
        }
        let before = tasks.len();
        // Entries come first; no other step looks like a number.
        let texts = of.entries().map(|(key, _)| matches!(key.kind(), ValueKind::Str(_)));
        let value = |((step, value), text)| Task::Value { value, step: Some((step, text)), parent, level };
        tasks.extend(children.take(shown).zip(texts.chain(std::iter::repeat(true))).map(value));
        if let Some(new) = tasks.get_mut(before..) {
            new.reverse();
        }
    }
}

fn indent(out: &mut impl Write, level: u64) -> io::Result<()> {
    (0..level).try_for_each(|_| out.write_all(b"  "))
}

/// A value that holds nothing: plain ones as Python writes them.
fn leaf(value: Value<'_>) -> String {
    match value.kind() {
        ValueKind::None
        | ValueKind::Bool(_)
        | ValueKind::Int(_)
        | ValueKind::BigInt(_)
        | ValueKind::Float(_)
        | ValueKind::Complex(..)
        | ValueKind::Str(_)
        | ValueKind::Surrogates(_)
        | ValueKind::Bytes(_)
        | ValueKind::ByteArray(_)
        | ValueKind::List
        | ValueKind::Tuple
        | ValueKind::Dict => human::plain(&value.to_string()).into_owned(),
        ValueKind::Damaged(error) => format!("damaged: {}", human::message(&error.to_string())),
        _ => describe::summary(value),
    }
}

/// Whether it is a sequence of nothing but values that hold nothing, such as a pair of numbers.
fn is_plain(value: Value<'_>) -> bool {
    let sequence = matches!(
        value.kind(),
        ValueKind::List
            | ValueKind::Tuple
            | ValueKind::Size
            | ValueKind::Set
            | ValueKind::FrozenSet
            | ValueKind::Deque
    );
    let plain = |value: Value<'_>| {
        matches!(
            value.kind(),
            ValueKind::None
                | ValueKind::Bool(_)
                | ValueKind::Int(_)
                | ValueKind::BigInt(_)
                | ValueKind::Float(_)
                | ValueKind::Complex(..)
                | ValueKind::Str(_)
                | ValueKind::Surrogates(_)
                | ValueKind::Bytes(_)
                | ValueKind::DType(_)
                | ValueKind::Device(_)
        )
    };
    sequence && value.items().all(plain)
}

fn spelled((step, is_text): &Step) -> String {
    match step {
        PathElement::Key(key) if *is_text && !describe::is_plain(key) => human::name(&format!("{key:?}")),
        PathElement::Key(key) => human::name(key),
        other => other.to_string(),
    }
}

/// The steps from the root to a place, joined by dots.
fn path(steps: &[(usize, String)], mut place: usize) -> String {
    let mut names = Vec::new();
    while let Some((parent, name)) = steps.get(place) {
        if place == 0 {
            // Without a PATH the root has no name.
            names.extend((!name.is_empty()).then_some(name.as_str()));
            break;
        }
        names.push(name.as_str());
        place = *parent;
    }
    names.reverse();
    if names.is_empty() { "the root".into() } else { human::name(&names.join(".")) }
}
