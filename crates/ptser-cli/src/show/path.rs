//! Finds a value by the name that `ptser ls` gives it.

use std::collections::HashSet;

use ptser::Value;

use crate::human;

/// Keys named in the message of one that is not there.
const NAMED: usize = 8;

/// The value at a path of keys and indexes joined by dots, or what is there instead; keys may hold dots themselves.
///
/// # Errors
/// Where memory is short.
pub(super) fn find<'c>(root: Value<'c>, name: &str) -> ptser::Result<Result<Value<'c>, String>> {
    if name.is_empty() {
        return Ok(Ok(root));
    }
    // Where a key is the beginning of another, both ways are tried, the longer key first.
    let mut open = vec![(root, name)];
    let mut tried = HashSet::new();
    let mut nearest = (root, name);
    while let Some((value, rest)) = open.pop() {
        if !tried.insert((value.id(), rest.len())) {
            continue;
        }
        if rest.len() < nearest.1.len() {
            nearest = (value, rest);
        }
        let mut ways = Vec::new();
        for (step, child) in value.children()? {
            let step = step.to_string();
            match rest.strip_prefix(step.as_str()) {
                Some("") => return Ok(Ok(child)),
                Some(behind) => ways.extend(behind.strip_prefix('.').map(|behind| (child, behind))),
                None => {}
            }
        }
        ways.sort_by_key(|(_, behind)| std::cmp::Reverse(behind.len()));
        open.extend(ways);
    }
    Ok(Err(missing(nearest.0, name, nearest.1)?))
}

fn missing(value: Value<'_>, name: &str, rest: &str) -> ptser::Result<String> {
    let there = name.strip_suffix(rest).map_or("", |there| there.trim_end_matches('.'));
    let inside = if there.is_empty() { "the root".to_owned() } else { human::name(there) };
    let mut steps = value.children()?.map(|(step, _)| human::name(&step.to_string()));
    let first: Vec<String> = steps.by_ref().take(NAMED).collect();
    let more = if steps.next().is_some() { ", …" } else { "" };
    let kind = human::name(value.type_name());
    let holds =
        if first.is_empty() { "holds nothing".into() } else { format!("holds {}{more}", first.join(", ")) };
    Ok(format!("there is no {}: {inside}, a {kind}, {holds}", human::name(name)))
}
