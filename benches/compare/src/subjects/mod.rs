//! Those who are compared: each function does one work, as a user of that reader or writer would.

pub mod candle;
pub mod floor;
pub mod ptser;
pub mod pytorch_reader;
pub mod safetensors;

use crate::Outcome;
use crate::fixtures::Fixture;
use crate::sample::{Job, Sample};

/// One row of a table.
pub struct Subject {
    pub name: &'static str,
    pub side: Side,
    pub fixture: Fixture,
    pub how: How,
}

/// Who it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the machine needs for the work without a format.
    Floor,
    Ptser,
    Peer,
}

/// How it is measured.
#[derive(Clone, Copy)]
pub enum How {
    /// By this program, in another process.
    Here(fn(&Job) -> Outcome<Vec<Sample>>),
    /// By peer.py, which knows this word.
    Torch(&'static str),
}

/// What is in the middle of files of which one tensor is read.
pub const PROBE: &str = "probe";

impl Subject {
    pub const fn floor(name: &'static str, fixture: Fixture, work: fn(&Job) -> Outcome<Vec<Sample>>) -> Self {
        Self { name, side: Side::Floor, fixture, how: How::Here(work) }
    }

    pub const fn ptser(name: &'static str, fixture: Fixture, work: fn(&Job) -> Outcome<Vec<Sample>>) -> Self {
        Self { name, side: Side::Ptser, fixture, how: How::Here(work) }
    }

    pub const fn peer(name: &'static str, fixture: Fixture, work: fn(&Job) -> Outcome<Vec<Sample>>) -> Self {
        Self { name, side: Side::Peer, fixture, how: How::Here(work) }
    }

    pub const fn torch(name: &'static str, fixture: Fixture, word: &'static str) -> Self {
        Self { name, side: Side::Peer, fixture, how: How::Torch(word) }
    }
}
