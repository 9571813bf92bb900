//! docs/benchmarks.md and docs/benchmarks.svg.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::plot;
use crate::table::Table;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
const BEGIN: &str = "<!-- What follows is written by benches/compare. -->\n";
const END: &str = "<!-- What is above is written by benches/compare. -->\n";

/// Puts the tables between the page's two marks, and draws the plot.
pub fn write(machine: &str, tables: &[Table]) -> Outcome<()> {
    let page = Path::new(DOCS).join("benchmarks.md");
    let text = fs::read_to_string(&page)?;
    let parts = text.split_once(BEGIN).and_then(|(above, rest)| Some((above, rest.split_once(END)?.1)));
    let (above, below) = parts.ok_or("docs/benchmarks.md has lost its marks")?;
    let tables_text: Vec<String> = tables.iter().map(Table::to_string).collect();
    let picture = "![Median times as bars: each table a panel](benchmarks.svg)";
    let measured = format!("\n## Measured\n\n{machine}\n{picture}\n\n{}\n", tables_text.join("\n"));
    fs::write(page, [above, BEGIN, &measured, END, below].concat())?;
    Ok(fs::write(Path::new(DOCS).join("benchmarks.svg"), plot::draw(tables))?)
}
