//! The same facts for people: one a line, the root's keys below.

use std::io::{self, Write};

use owo_colors::OwoColorize;
use ptser::Format;

use super::{Facts, STORAGE_ALIGNMENT, word};
use crate::columns::{self, Side};
use crate::describe::{keys, spelled, summary};
use crate::human;

/// Shared storages, globals and keys beyond these are only counted.
const LISTED: usize = 20;

/// Writes everything.
pub(super) fn write(out: &mut impl Write, facts: &Facts<'_>) -> io::Result<()> {
    let size = facts.size.map_or_else(String::new, |size| format!(", {}", human::bytes(size)));
    writeln!(out, "{}: {}{size}", human::plain(&facts.file).bold(), format(facts.checkpoint.format()))?;
    write_container(out, facts)?;
    write_contents(out, facts)?;
    write_sharing(out, facts)?;
    write_globals(out, facts)?;
    write_root(out, facts)
}

fn line(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {} {text}", format_args!("{label:<18}").dimmed())
}

fn write_container(out: &mut impl Write, facts: &Facts<'_>) -> io::Result<()> {
    let checkpoint = facts.checkpoint;
    if !checkpoint.root_folder().is_empty() {
        line(out, "root folder", &human::name(checkpoint.root_folder()))?;
    }
    if checkpoint.archive_offset() > 0 {
        line(out, "archive offset", &human::bytes(checkpoint.archive_offset()))?;
    }
    for (name, note) in &facts.notes {
        // The alignment is told below, beside the one that was found.
        if let Some(note) = note.as_ref().filter(|_| *name != STORAGE_ALIGNMENT) {
            line(out, &name.replace('_', " "), &human::name(note))?;
        }
    }
    line(out, "byte order", checkpoint.byte_order().name())?;
    line(out, "pickle protocol", &checkpoint.protocol().to_string())?;
    if let Some(alignment) = facts.alignment {
        let found = human::count(usize::try_from(alignment).unwrap_or(usize::MAX), "byte");
        let recorded = facts
            .notes
            .iter()
            .find(|(name, _)| *name == STORAGE_ALIGNMENT)
            .and_then(|(_, note)| note.as_ref());
        let recorded = match recorded.map(|note| (note, note.parse::<u64>())) {
            None => String::new(),
            Some((_, Ok(recorded))) if recorded == alignment => ", as recorded".into(),
            Some((_, Ok(recorded))) if alignment.is_multiple_of(recorded) => format!(", {recorded} recorded"),
            Some((note, _)) => format!(", not the {} recorded", human::name(note)),
        };
        line(out, "alignment", &format!("{found}{recorded}"))?;
    }
    let records = &facts.records;
    let mut text = format!("{}, {}", human::number(records.count), human::bytes(records.bytes));
    if records.deflated > 0 {
        let deflated = human::number(records.deflated);
        text.push_str(&format!("; {deflated} deflated, {} in the file", human::bytes(records.stored_bytes)));
    }
    line(out, "records", &text)?;
    let unreferenced = &facts.unreferenced;
    if unreferenced.count > 0 {
        let text = format!(
            "{}, {}: nothing refers to them",
            human::number(unreferenced.count),
            human::bytes(unreferenced.bytes)
        );
        line(out, "unreferenced", &text)?;
    }
    Ok(())
}

fn write_contents(out: &mut impl Write, facts: &Facts<'_>) -> io::Result<()> {
    let tally = &facts.tally;
    let mut text = human::number(tally.storages.len());
    if !tally.storages.is_empty() {
        text.push_str(&format!(", {}", human::bytes(facts.stored())));
    }
    match facts.locations.as_slice() {
        [] => {}
        [(location, _)] => text.push_str(&format!(" on {}", human::name(location))),
        several => {
            let each = several
                .iter()
                .take(LISTED)
                .map(|(location, count)| format!("{} on {}", human::number(*count), human::name(location)));
            text.push_str(&format!(": {}", each.collect::<Vec<_>>().join(", ")));
        }
    }
    line(out, "storages", &text)?;

    let mut text = human::number(tally.tensors);
    if tally.paths > tally.tensors {
        text.push_str(&format!(" at {}", human::count(tally.paths, "path")));
    }
    if !tally.dtypes.is_empty() {
        let each = tally.dtypes.iter().map(|(dtype, count)| format!("{} {dtype}", human::number(*count)));
        text.push_str(&format!(": {}", each.collect::<Vec<_>>().join(", ")));
    }
    if tally.parameters > 0 {
        text.push_str(&format!("; {}", human::count(tally.parameters, "parameter")));
    }
    if tally.parts > 0 {
        text.push_str(&format!("; and {}", human::count(tally.parts, "part")));
    }
    line(out, "tensors", &text)?;

    let storages = facts.slack().count();
    let text = match facts.slack().max_by_key(|(_, bytes)| *bytes) {
        None => "none".to_owned(),
        Some((key, most)) => {
            let bytes = facts.slack().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(bytes));
            let (bytes, key) = (human::bytes(bytes), human::name(key));
            match storages {
                1 => format!("{bytes} of storage {key}, which no tensor views"),
                _ => format!(
                    "{bytes} in {storages} storages, which no tensor views; most in storage {key}, {}",
                    human::bytes(most)
                ),
            }
        }
    };
    line(out, "slack", &text)
}

fn write_sharing(out: &mut impl Write, facts: &Facts<'_>) -> io::Result<()> {
    let mut label = "sharing";
    for used in facts.tally.shared().take(LISTED) {
        let names: Vec<String> = used.by.iter().take(4).map(|entry| human::name(entry.name())).collect();
        let more = used.by.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        line(
            out,
            label,
            &format!("storage {}: {}{more}", human::name(used.storage.key()), names.join(", ")),
        )?;
        label = "";
    }
    match facts.tally.shared().count() {
        0 => line(out, "sharing", "none"),
        count if count > LISTED => {
            line(out, label, &format!("and {}", human::count(count - LISTED, "more storage")))
        }
        _ => Ok(()),
    }
}

fn write_globals(out: &mut impl Write, facts: &Facts<'_>) -> io::Result<()> {
    let mut label = "globals";
    // What is out of the ordinary comes first.
    let mut globals: Vec<(&str, &str)> =
        facts.checkpoint.globals().map(|(name, verdict)| (word(verdict), name)).collect();
    globals.sort_by_key(|(verdict, _)| *verdict == "allowed");
    for (verdict, name) in globals.iter().take(LISTED) {
        let name = human::name(name);
        if *verdict == "allowed" {
            line(out, label, &format!("{verdict:<8} {name}"))?;
        } else {
            line(out, label, &format!("{:<8} {name}", verdict.yellow()))?;
        }
        label = "";
    }
    match globals.len() {
        0 => line(out, "globals", "none"),
        count if count > LISTED => line(out, label, &format!("and {} more", count - LISTED)),
        _ => Ok(()),
    }
}

fn write_root(out: &mut impl Write, facts: &Facts<'_>) -> io::Result<()> {
    let root = facts.checkpoint.root();
    writeln!(out)?;
    writeln!(out, "{}: {}", "root".bold(), summary(root))?;
    let rows: Vec<(String, String)> =
        keys(root).take(LISTED).map(|(key, value)| (spelled(key), summary(value))).collect();
    let cells = rows.iter().map(|(key, summary)| vec![key.as_str(), summary.as_str()]);
    for line in columns::lay_out(&[Side::Left, Side::Left], cells) {
        writeln!(out, "  {line}")?;
    }
    match keys(root).count() {
        count if count > LISTED => writeln!(out, "  and {} more", human::number(count - LISTED)),
        _ => Ok(()),
    }
}

fn format(format: Format) -> &'static str {
    match format {
        Format::Zip => "zip archive, as of torch 1.6",
        Format::TorchScript => "TorchScript program in a zip archive",
        other => other.name(),
    }
}
