//! The tables as bars, in SVG that can be read on light and on dark ground.

use std::fmt::Write;

use crate::subjects::Side;
use crate::table::{Row, Table, milliseconds};

const WIDTH: f64 = 860.0;
/// Where bars begin, and how long the longest is.
const BARS: f64 = 320.0;
const LONGEST: f64 = 450.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 44.0;

const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.name { text-anchor: end }
.floor { fill: #8c959f } .ptser { fill: #0969da } .peer { fill: #d29922 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ptser { fill: #58a6ff } }
</style>
";

/// Draws a panel for each table; bars are medians, on a scale of the panel's own.
pub fn draw(tables: &[Table]) -> String {
    let mut body = String::new();
    let mut y = 28.0;
    let mut x = BARS;
    for (class, what) in [("floor", "the machine"), ("ptser", "ptser"), ("peer", "others")] {
        bar(&mut body, class, x, 8.0, 14.0);
        text(&mut body, "value", x + 20.0, 20.0, what);
        x += 110.0;
    }
    for table in tables {
        let longest = table.rows.iter().filter_map(Row::median_ms).fold(0.0, f64::max);
        text(&mut body, "title", 8.0, y + HEAD - 14.0, &format!("{}, ms", table.group.title));
        y += HEAD;
        for row in &table.rows {
            let Some(ms) = row.median_ms() else { continue };
            let class = match row.subject.side {
                Side::Floor => "floor",
                Side::Ptser => "ptser",
                Side::Peer => "peer",
            };
            let length = (LONGEST * ms / longest).max(1.0);
            text(&mut body, "name", BARS - 8.0, y + 12.0, row.subject.name);
            bar(&mut body, class, BARS, y, length);
            text(&mut body, "value", BARS + length + 6.0, y + 12.0, &milliseconds(ms));
            y += ROW;
        }
    }
    let height = y + 8.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>Median times of ptser and others</title>\n{STYLE}{body}</svg>\n"
    )
}

fn bar(body: &mut String, class: &str, x: f64, y: f64, length: f64) {
    // Writing to a string does not fail.
    writeln!(body, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" height=\"14\"/>").ok();
}

fn text(body: &mut String, class: &str, x: f64, y: f64, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\">{what}</text>").ok();
}
