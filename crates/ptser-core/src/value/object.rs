//! Objects that were never made: their class, what they were to be made from, and what was put into them.

use super::{Value, ValueKind, pairs};
use crate::pickle::Node;
use crate::torch::{Meaning, PidMeaning};

impl<'c> Value<'c> {
    /// The class or function of an object that was never made, `module.name`.
    pub fn class(self) -> Option<&'c str> {
        let (object, meaning) = self.document.meaning(self.id)?;
        if let Meaning::Tensor(meaning) = meaning {
            return self.document.global(meaning.class?);
        }
        let callable = self.document.global(object.callable);
        // Python 2 and protocol 0 spell "an instance of cls" so.
        if callable == Some("copyreg._reconstructor") {
            let class = self.document.graph.members(object.args).first();
            return class.and_then(|&class| self.document.global(class)).or(callable);
        }
        callable
    }

    /// What was called to make an object, where that is an object itself and no global.
    pub(crate) fn callable(self) -> Option<Self> {
        let (object, _) = self.document.meaning(self.id)?;
        Some(self.at(object.callable)).filter(|callable| matches!(callable.kind(), ValueKind::Object))
    }

    /// The file and the source text of a class, or of an object's class, as legacy streams record them for
    /// modules.
    pub fn source(self) -> Option<(&'c str, &'c str)> {
        let graph = &self.document.graph;
        let class = graph.object(self.id).map_or(self.id, |(_, object)| object.callable);
        let members = match graph.node(class) {
            Node::PersistentId(pid) => graph.tuple(pid)?,
            _ => return None,
        };
        match self.document.pid(class)? {
            PidMeaning::Class(_) => match members {
                [.., file, source] => graph.str(*file).zip(graph.str(*source)),
                _ => None,
            },
            PidMeaning::Storage(..) | PidMeaning::Tensor(_) | PidMeaning::Damaged(_) => None,
        }
    }

    /// The arguments of an object's construction.
    ///
    /// Of `copyreg._reconstructor(class, base, content)`, which is how protocols 0 and 1 spell an instance, only
    /// the content is one: what an instance of a subclass of `dict`, `list` or `tuple` holds.
    pub fn args(self) -> impl Iterator<Item = Self> {
        let graph = &self.document.graph;
        let object = graph.object(self.id).filter(|_| matches!(self.kind(), ValueKind::Object));
        let args = object.map_or(&[][..], |(_, object)| {
            let args = graph.members(object.args);
            match args {
                [_, _, content]
                    if self.document.global(object.callable) == Some("copyreg._reconstructor") =>
                {
                    let nothing = matches!(graph.node(*content), Node::None);
                    if nothing { &[] } else { std::slice::from_ref(content) }
                }
                args => args,
            }
        });
        args.iter().map(move |&id| self.at(id))
    }

    /// The keyword arguments of an object's construction.
    pub fn kwargs(self) -> Option<Self> {
        let (_, object) = self.document.graph.object(self.id)?;
        object.more.as_deref()?.kwargs.map(|id| self.at(id))
    }

    /// What was given to `__setstate__`, or to the attributes, of an object; the last one, if several.
    pub fn state(self) -> Option<Self> {
        self.states().last()
    }

    /// All states given to an object, also by a function of its class's own; pickles give one.
    pub fn states(self) -> impl Iterator<Item = Self> {
        let (attributes, more) = match self.document.meaning(self.id) {
            Some((_, Meaning::Tensor(meaning))) => (meaning.attributes, None),
            Some((object, _)) => (None, object.more.as_deref()),
            None => (None, None),
        };
        let states = more.into_iter().flat_map(|more| self.document.graph.states(more));
        attributes.into_iter().chain(states).map(move |id| self.at(id))
    }

    /// Python attributes by name: of an ordered dict (`_metadata`), a tensor, a parameter or an object.
    ///
    /// They are the entries of a state that is a dict, or of both dicts of a state with slots.
    pub fn attributes(self) -> impl Iterator<Item = (Self, Self)> {
        self.states().flat_map(|state| {
            // (attributes, slots), either of which may be None.
            let parts: Vec<Self> = state.items().take(3).collect();
            let slots = matches!(state.kind(), ValueKind::Tuple)
                && parts.len() == 2
                && parts.iter().all(|part| part.is_mapping() || part.is_none());
            let parts = if slots { parts } else { vec![state] };
            parts.into_iter().flat_map(Self::entries).collect::<Vec<_>>()
        })
    }

    /// Items appended to an object that is no list.
    pub fn appended(self) -> impl Iterator<Item = Self> {
        let object = self.document.meaning(self.id).filter(|(_, meaning)| matches!(meaning, Meaning::Opaque));
        let items = object
            .and_then(|(object, _)| object.more.as_deref())
            .map_or(&[][..], |more| more.items.as_slice());
        items.iter().map(move |&id| self.at(id))
    }

    /// Entries set on an object that is no dict.
    pub fn assigned(self) -> impl Iterator<Item = (Self, Self)> {
        let object = self.document.meaning(self.id).filter(|(_, meaning)| matches!(meaning, Meaning::Opaque));
        let entries = object
            .and_then(|(object, _)| object.more.as_deref())
            .map_or(&[][..], |more| more.entries.as_slice());
        pairs(entries).into_iter().map(move |(key, value)| (self.at(key), self.at(value)))
    }
}
