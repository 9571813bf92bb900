//! Values of Python's standard library that are more readable than the calls that make them: paths, points in
//! time, members of classes.

use std::fmt::Write;

use super::interpret::{Meaning, Reading};
use super::names::Moment;
use super::numpy::latin1;
use crate::error::Result;
use crate::pickle::{Node, NodeId};

impl Reading<'_> {
    /// `PosixPath('/', 'home', 'x')`: the parts, of which the first may be an anchor.
    pub(super) fn path(&self, windows: bool, args: &[NodeId]) -> Result<Option<Meaning>> {
        let separator = if windows { '\\' } else { '/' };
        let mut path = String::new();
        for &part in args {
            let Some(part) = self.graph.str(part) else { return Ok(None) };
            self.charge(part.len().saturating_add(1))?;
            let anchored = part.starts_with('/') || (windows && part.starts_with('\\'));
            // Behind a drive without a root, a path is relative.
            let bare_drive = windows && path.len() == 2 && path.ends_with(':');
            if anchored {
                // An absolute part starts anew.
                path.clear();
            } else if !path.is_empty() && !path.ends_with(separator) && !bare_drive {
                path.push(separator);
            }
            path.push_str(part);
        }
        if path.is_empty() {
            path.push('.');
        }
        Ok(Some(Meaning::Path(path.into())))
    }

    /// `datetime(b'\x07\xe8\x01\x02\x03\x04\x05\x00\x00\x06')`, with a time zone behind it.
    pub(super) fn time(&self, moment: Moment, args: &[NodeId]) -> Result<Option<Meaning>> {
        let (bytes, zone) = match *args {
            [bytes] => (bytes, None),
            [bytes, zone] => (bytes, Some(zone)),
            _ => return Ok(None),
        };
        Ok(self.iso(moment, bytes, zone).map(|text| Meaning::Time(text.into())))
    }

    fn iso(&self, moment: Moment, bytes: NodeId, zone: Option<NodeId>) -> Option<String> {
        let decoded;
        let bytes = match self.bytes_of(bytes) {
            Some(bytes) => bytes,
            // As Python 2 wrote them.
            None => {
                decoded = latin1(self.graph.str(bytes).filter(|text| text.len() <= 40)?)?;
                &decoded
            }
        };
        let mut text = String::new();
        match (moment, bytes) {
            (Moment::Date, date) => write_date(&mut text, date)?,
            (Moment::Clock, clock) => write_clock(&mut text, clock)?,
            (Moment::Both, bytes) => {
                let (date, clock) = bytes.split_at_checked(4)?;
                write_date(&mut text, date)?;
                text.push('T');
                write_clock(&mut text, clock)?;
            }
        }
        if let Some(zone) = zone {
            self.write_zone(&mut text, zone)?;
        }
        Some(text)
    }

    /// `timezone(timedelta(days, seconds, microseconds)[, name])`.
    fn write_zone(&self, text: &mut String, zone: NodeId) -> Option<()> {
        let &[delta, ..] = self.arguments_of(zone, "datetime.timezone")? else { return None };
        let &[days, seconds, micros] = self.arguments_of(delta, "datetime.timedelta")? else { return None };
        let int = |id: NodeId| match self.graph.node(id) {
            Node::Int(int) => Some(int),
            _ => None,
        };
        let total = int(days)?.checked_mul(86_400)?.checked_add(int(seconds)?)?;
        // Parts of a second, which no zone has, are left to the object.
        if int(micros)? != 0 || total.unsigned_abs() >= 86_400 {
            return None;
        }
        let sign = if total < 0 { '-' } else { '+' };
        let total = total.unsigned_abs();
        let (minutes, seconds) = (total.checked_div(60)?, total.checked_rem(60)?);
        let (hours, minutes) = (minutes.checked_div(60)?, minutes.checked_rem(60)?);
        write!(text, "{sign}{hours:02}:{minutes:02}").ok()?;
        if seconds != 0 {
            write!(text, ":{seconds:02}").ok()?;
        }
        Some(())
    }

    fn arguments_of(&self, id: NodeId, callable: &str) -> Option<&[NodeId]> {
        let (_, object) = self.graph.object(id)?;
        let Node::Global(symbol) = self.graph.node(object.callable) else { return None };
        let symbol = self.graph.symbol(symbol)?;
        if *symbol.full == *callable { self.graph.tuple(object.args) } else { None }
    }

    /// `getattr(Outer, 'Inner')`.
    pub(super) fn member(&self, args: &[NodeId]) -> Option<Meaning> {
        let &[class, name] = args else { return None };
        let class = match (self.graph.node(class), self.meaning_of(class)) {
            (Node::Global(symbol), _) => &self.graph.symbol(symbol)?.full,
            (_, Some(Meaning::Member(outer))) => outer,
            _ => return None,
        };
        let name = self.graph.str(name)?;
        self.charge(class.len().saturating_add(name.len())).ok()?;
        Some(Meaning::Member(format!("{class}.{name}").into()))
    }
}

/// Year, month, day. The highest bit of the month tells the second of two equal hours.
fn write_date(text: &mut String, bytes: &[u8]) -> Option<()> {
    let &[high, low, month, day] = bytes else { return None };
    let (year, month) = (u16::from_be_bytes([high, low]), month & 0x7F);
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    write!(text, "{year:04}-{month:02}-{day:02}").ok()
}

/// Hour, minute, second, and three bytes of microseconds.
fn write_clock(text: &mut String, bytes: &[u8]) -> Option<()> {
    let &[hour, minute, second, high, middle, low] = bytes else { return None };
    // The highest bit of an hour by itself tells what that of a month does.
    let hour = hour & 0x7F;
    let micros = u32::from_be_bytes([0, high, middle, low]);
    if hour > 23 || minute > 59 || second > 59 || micros > 999_999 {
        return None;
    }
    write!(text, "{hour:02}:{minute:02}:{second:02}").ok()?;
    if micros != 0 {
        write!(text, ".{micros:06}").ok()?;
    }
    Some(())
}
