//! Two values side by side: what is in one and not in the other, and what is in both and differs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use ptser::{Tensor, Value, ValueKind};

use super::identity::{Identities, Step};
use super::{leaves, values};
use crate::output::{Failure, explain};
use crate::{describe, human};

/// A difference.
pub(super) enum Change<'c> {
    /// In one of the two, 0 or 1, alone.
    Only(usize, Value<'c>),
    Changed(String),
}

/// Values of both files at the same path.
struct Pair<'c> {
    step: usize,
    values: (Value<'c>, Value<'c>),
}

/// What a value holds.
type Children<'c> = Vec<(Step, Value<'c>)>;

/// Goes through two values, and tells their differences one by one.
pub(super) struct Walk<'c> {
    files: (&'c Path, &'c Path),
    /// A tree: each step names its parent by place plus one; 0 is the root.
    steps: Vec<(usize, String)>,
    open: Vec<Pair<'c>>,
    /// Values that were compared already: what is shared is compared once, and cycles end.
    met: HashSet<(usize, usize)>,
    found: VecDeque<(usize, Change<'c>)>,
    identities: (Identities, Identities),
    /// Tensors in both.
    pub(super) tensors: usize,
    /// Values in both that hold nothing.
    pub(super) others: usize,
}

/// Beyond these, two files are made to be compared without end.
const PAIRS: usize = 2_000_000;
/// Members of one container: no checkpoint has as many, and each takes memory while it is looked for.
const MEMBERS: usize = 500_000;

impl<'c> Walk<'c> {
    pub(super) fn new(files: (&'c Path, &'c Path), values: (Value<'c>, Value<'c>)) -> Self {
        Self {
            files,
            steps: Vec::new(),
            open: vec![Pair { step: 0, values }],
            met: HashSet::new(),
            found: VecDeque::new(),
            identities: <(Identities, Identities)>::default(),
            tensors: 0,
            others: 0,
        }
    }

    /// The next difference, and the path to it.
    pub(super) fn next_change(&mut self) -> Result<Option<(String, Change<'c>)>, Failure> {
        loop {
            if let Some((step, change)) = self.found.pop_front() {
                return Ok(Some((self.name(step), change)));
            }
            let Some(pair) = self.open.pop() else { return Ok(None) };
            self.compare(pair)?;
        }
    }

    fn compare(&mut self, pair: Pair<'c>) -> Result<(), Failure> {
        let Pair { step, values: (a, b) } = pair;
        if self.met.contains(&(a.id(), b.id())) {
            return Ok(());
        }
        let tensors = (tensor(a), tensor(b));
        match tensors {
            (Some(first), Some(second)) => {
                self.tensors += 1;
                self.tensors(step, first, second)?;
            }
            _ if !same_kind(a, b) => {
                let change = format!("{} → {}", describe::summary(a), describe::summary(b));
                self.found.push_back((step, Change::Changed(change)));
                return Ok(());
            }
            _ if is_set(a) => {
                self.others += 1;
                self.met.insert((a.id(), b.id()));
                if self.identities.0.set(a)? != self.identities.1.set(b)? {
                    self.found.push_back((step, Change::Changed(leaves::change(a, b))));
                }
                return Ok(());
            }
            _ => {}
        }
        let children = (a.children()?, b.children()?);
        // What holds nothing and is shared differs at each of its paths.
        if tensors.0.is_some() || children.0.len() > 0 || children.1.len() > 0 {
            self.met.insert((a.id(), b.id()));
        }
        if children.0.len().max(children.1.len()) > MEMBERS {
            return Err(Failure::file(self.files.1, "it has too many members in one place to be compared"));
        }
        if children.0.len() == 0 && children.1.len() == 0 {
            if tensors.0.is_none() {
                self.others += 1;
                let change = leaves::compare(a, b).map_err(|error| self.blame(step, &error))?;
                self.found.extend(change.map(|change| (step, Change::Changed(change))));
            }
            return Ok(());
        }
        let members = (self.identities.0.members(a, children.0)?, self.identities.1.members(b, children.1)?);
        self.children(step, members.0, members.1);
        if self.met.len().max(self.steps.len()) > PAIRS {
            return Err(Failure::file(self.files.1, "it shares too much with itself to be compared"));
        }
        Ok(())
    }

    /// Pairs the members of both; they are looked at in the order of the first.
    fn children(&mut self, step: usize, first: Children<'c>, second: Children<'c>) {
        if first.len() == second.len() && first.iter().zip(&second).all(|((one, _), (other, _))| one == other)
        {
            for ((element, value), (_, other)) in first.into_iter().zip(second).rev() {
                let step = self.step(step, element.0.to_string());
                self.open.push(Pair { step, values: (value, other) });
            }
            return;
        }
        let mut others: HashMap<&Step, VecDeque<usize>> = HashMap::new();
        for (place, (element, _)) in second.iter().enumerate() {
            others.entry(element).or_default().push_back(place);
        }
        let mut taken = vec![false; second.len()];
        let before = self.open.len();
        for (element, value) in first {
            let other = others.get_mut(&element).and_then(VecDeque::pop_front);
            let step = self.step(step, element.0.to_string());
            match other.and_then(|place| Some((place, second.get(place)?))) {
                Some((place, (_, other))) => {
                    if let Some(taken) = taken.get_mut(place) {
                        *taken = true;
                    }
                    self.open.push(Pair { step, values: (value, *other) });
                }
                None => self.found.push_back((step, Change::Only(0, value))),
            }
        }
        drop(others);
        for ((element, value), _) in second.iter().zip(taken).filter(|(_, taken)| !taken) {
            let step = self.step(step, element.0.to_string());
            self.found.push_back((step, Change::Only(1, *value)));
        }
        if let Some(new) = self.open.get_mut(before..) {
            new.reverse();
        }
    }

    fn tensors(&mut self, step: usize, a: &Tensor, b: &Tensor) -> Result<(), Failure> {
        let change = values::compare(a, b).map_err(|(side, error)| {
            let file = if side == 0 { self.files.0 } else { self.files.1 };
            Failure::tensor(file, &self.name(step), &explain(&error))
        })?;
        if let Some(change) = change {
            self.found.push_back((step, Change::Changed(change)));
            return Ok(());
        }
        // Those of a sparse tensor and of a nested one; a tensor of one kind has as many as another.
        for ((name, first), (_, second)) in a.parts().zip(b.parts()) {
            let step = self.step(step, format!("#{name}"));
            self.tensors(step, first, second)?;
        }
        Ok(())
    }

    fn blame(&self, step: usize, error: &ptser::Error) -> Failure {
        Failure::tensor(self.files.0, &self.name(step), &explain(error))
    }

    fn step(&mut self, parent: usize, element: String) -> usize {
        self.steps.push((parent, element));
        self.steps.len()
    }

    /// The path of a step, joined by dots.
    fn name(&self, mut step: usize) -> String {
        if step == 0 {
            return "(root)".into();
        }
        let mut names = Vec::new();
        while let Some((parent, name)) = step.checked_sub(1).and_then(|place| self.steps.get(place)) {
            names.push(name.as_str());
            step = *parent;
        }
        names.reverse();
        match names.join(".").as_str() {
            "" => "\"\"".into(),
            name => human::name(name),
        }
    }
}

fn tensor(value: Value<'_>) -> Option<&Tensor> {
    match value.kind() {
        ValueKind::Tensor(tensor) | ValueKind::Array(tensor) => Some(tensor),
        _ => None,
    }
}

fn is_set(value: Value<'_>) -> bool {
    matches!(value.kind(), ValueKind::Set | ValueKind::FrozenSet)
}

/// Whether two values are of one type, but for which kind of dict they are.
fn same_kind(a: Value<'_>, b: Value<'_>) -> bool {
    (a.is_mapping() && b.is_mapping()) || a.type_name() == b.type_name()
}
