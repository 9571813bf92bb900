//! What PyTorch found in a file, as a tree, and the tensors in it by path. `tests/interop/describe.py` describes the
//! format; a corpus brings the like.

use std::collections::HashMap;

use serde_json::Value as Json;

/// The description of one file.
pub(crate) struct Oracle {
    json: Json,
    /// For each entry, the entries directly below it.
    children: Vec<Vec<usize>>,
    /// Entries by their joined path, the first of each.
    by_path: HashMap<String, usize>,
    /// The joined paths that it tells nothing of.
    unread: Vec<String>,
}

/// A tensor that is to be found.
pub(crate) struct Expected<'o> {
    /// The path's elements joined by slashes.
    pub(crate) path: String,
    pub(crate) entry: &'o Json,
}

impl Oracle {
    pub(crate) fn new(json: Json) -> Self {
        let mut children: Vec<Vec<usize>> = Vec::new();
        let mut by_path = HashMap::new();
        let mut open: Vec<usize> = Vec::new();
        let entries = json["entries"].as_array().map_or(&[][..], Vec::as_slice);
        for (place, entry) in entries.iter().enumerate() {
            while open.last().is_some_and(|&above| !is_below(entry, &entries[above])) {
                open.pop();
            }
            if let Some(&parent) = open.last() {
                children[parent].push(place);
            }
            open.push(place);
            children.push(Vec::new());
            by_path.entry(text(entry, "path").to_owned()).or_insert(place);
        }
        let unread = entries.iter().filter(|entry| text(entry, "kind") == "unread");
        let unread = unread.map(|entry| text(entry, "path").to_owned()).collect();
        Self { json, children, by_path, unread }
    }

    /// How PyTorch read the file; `None` where it could not.
    pub(crate) fn mode(&self) -> Option<&str> {
        self.json["mode"].as_str()
    }

    /// Whether it shows elements in the file's byte order where PyTorch fails to swap them.
    pub(crate) fn forgets_to_swap(&self) -> bool {
        !self.json["swapped"].as_bool().unwrap_or_default()
    }

    /// Whether it tells nothing of what lies at or below a path: entries of the kind `unread` say so.
    pub(crate) fn passes_over(&self, path: &str) -> bool {
        self.unread.iter().any(|above| {
            let rest = path.strip_prefix(above.as_str());
            rest.is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with('/'))
        })
    }

    pub(crate) fn entries(&self) -> &[Json] {
        self.json["entries"].as_array().map_or(&[][..], Vec::as_slice)
    }

    /// The first entry of a joined path.
    pub(crate) fn at(&self, path: &str) -> Option<&Json> {
        self.by_path.get(path).map(|&place| &self.entries()[place])
    }

    /// The entries of some types.
    pub(crate) fn of_types(&self, types: &[&str]) -> Vec<&Json> {
        self.entries().iter().filter(|entry| types.contains(&text(entry, "type"))).collect()
    }

    /// The tensors by path, in order.
    ///
    /// The oracle walks a container once and writes `ref` where it comes to it again, and the attributes of a
    /// tensor once; we list what is below at each path, but for cycles. So what stands below the first visit
    /// is repeated here.
    pub(crate) fn tensors(&self) -> Vec<Expected<'_>> {
        let mut found = Vec::new();
        if !self.entries().is_empty() {
            self.collect(0, "", "", &mut Vec::new(), &mut found);
        }
        found
    }

    /// Adds the tensors at and below an entry, with `from` at the start of their paths replaced by `to`.
    fn collect<'o>(
        &'o self,
        place: usize,
        from: &str,
        to: &str,
        open: &mut Vec<usize>,
        found: &mut Vec<Expected<'o>>,
    ) {
        let entry = &self.entries()[place];
        let path = format!(
            "{to}{}",
            text(entry, "path").strip_prefix(from).expect("a child's path begins with its parent's")
        );
        let first = match text(entry, "kind") {
            "ref" => self.by_path[text(entry, "to")],
            "tensor" => {
                found.push(Expected { path: path.clone(), entry });
                entry["same_as"].as_str().map_or(place, |first| self.by_path[first])
            }
            _ => place,
        };
        if open.contains(&first) {
            return;
        }
        open.push(first);
        // The parts of a tensor are repeated by the oracle itself, its attributes are not.
        let is_part = |&&child: &&usize| last_key(&self.entries()[child]).starts_with("a:#");
        if first != place && text(entry, "kind") == "tensor" {
            for &part in self.children[place].iter().filter(is_part) {
                self.collect(part, from, to, open, found);
            }
            for &attribute in self.children[first].iter().filter(|child| !is_part(child)) {
                self.collect(attribute, text(&self.entries()[first], "path"), &path, open, found);
            }
        } else {
            for &child in &self.children[first] {
                self.collect(child, text(&self.entries()[first], "path"), &path, open, found);
            }
        }
        open.pop();
    }
}

pub(crate) fn is_below(entry: &Json, above: &Json) -> bool {
    let keys = |entry: &Json| entry["keys"].as_array().cloned().unwrap_or_default();
    let (below, above) = (keys(entry), keys(above));
    below.len() > above.len() && below.starts_with(&above)
}

fn last_key(entry: &Json) -> &str {
    entry["keys"].as_array().and_then(|keys| keys.last()).and_then(Json::as_str).unwrap_or_default()
}

pub(crate) fn text<'j>(entry: &'j Json, field: &str) -> &'j str {
    entry[field].as_str().unwrap_or_default()
}
