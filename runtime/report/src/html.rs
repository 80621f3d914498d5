//! A report as one HTML file that needs nothing else: style, typeface, pictures and tables are inside it.
//!
//! Everything that came from a program or a run goes through [`escape`]; markup is only what is written here. Names of runs are links to the appendix.

use std::fmt::Write as _;

use crate::page::{Block, Cell, Document, Inline, Table};
use crate::svg::{Links, svg};
use crate::text::{base64, escape, slug};

const REGULAR: &[u8] = include_bytes!("../fonts/inter-regular.woff2");
const SEMIBOLD: &[u8] = include_bytes!("../fonts/inter-semibold.woff2");

const STYLE: &str = "
:root { color: #1f2933; background: #f4f6f8; font: 16px/1.55 Inter, 'Helvetica Neue', Arial, sans-serif; }
body { margin: 0; }
main { max-width: 808px; margin: 32px auto 64px; padding: 32px 40px 48px; background: #fff; border: 1px solid #e4e8ed; border-radius: 10px; box-sizing: border-box; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 20px; }
h2 { font-size: 19px; letter-spacing: -0.01em; margin: 36px 0 10px; }
h1, h2, th { font-weight: 600; }
p { margin: 14px 0; max-width: 68ch; }
.value { font-weight: 600; font-feature-settings: 'tnum'; white-space: nowrap; }
a { color: #1f6fb4; text-decoration: none; }
a:hover { text-decoration: underline; }
a.value { color: inherit; border-bottom: 1.5px solid #9cc3e4; }
a.value:hover { text-decoration: none; border-color: #1f6fb4; }
figure { margin: 24px -16px; }
figure svg { display: block; max-width: 100%; height: auto; }
figure a:hover { opacity: 0.7; }
.scroll { overflow-x: auto; margin: 10px 0 24px; }
table { border-collapse: collapse; font-size: 14px; font-feature-settings: 'tnum'; }
th, td { padding: 6px 14px 6px 0; text-align: left; border-bottom: 1px solid #e4e8ed; white-space: nowrap; }
th { color: #5b6673; border-bottom-color: #b8c1cb; vertical-align: bottom; }
th.n, td.n { text-align: right; }
td:last-child, th:last-child { padding-right: 0; }
tr:target td { background: #fff6d6; }
code { font: 13px/1.4 ui-monospace, 'SF Mono', Menlo, Consolas, monospace; color: #5b6673; }
@media (max-width: 860px) { main { margin: 0; padding: 20px; border: 0; border-radius: 0; } figure { margin: 20px 0; } }
@media print { :root { background: #fff; } main { border: 0; margin: 0; padding: 0; max-width: none; } figure { break-inside: avoid; } }
";

/// The page.
pub fn html(document: &Document) -> String {
    let title = escape(&document.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"cs336c\">\n<title>{title}</title>\n<style>\n{}{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n",
        faces()
    );
    for (i, block) in document.blocks.iter().enumerate() {
        match block {
            Block::Text(pieces) => {
                let text: String = pieces.iter().map(|p| inline(p, document)).collect();
                out.push_str(&format!("<p>{text}</p>\n"));
            }
            Block::Chart(chart) => {
                // The prefix keeps names inside pictures apart.
                let picture = svg(chart, &format!("c{i}"), Links::Anchors);
                out.push_str(&format!("<figure>\n{picture}</figure>\n"));
            }
            Block::Table(t) => table(&mut out, t, document, false),
        }
    }
    if !document.runs.is_empty() {
        table(&mut out, &document.appendix(), document, true);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn faces() -> String {
    let face = |bytes: &[u8], weight: u32| {
        let data = base64(bytes);
        format!(
            "@font-face {{ font-family: Inter; font-weight: {weight}; src: url(data:font/woff2;base64,{data}) format('woff2'); }}\n"
        )
    };
    face(REGULAR, 400) + &face(SEMIBOLD, 600)
}

fn inline(piece: &Inline, document: &Document) -> String {
    match piece {
        Inline::Text(t) => escape(t),
        Inline::Value { text, run } => {
            let text = escape(text);
            match run.as_ref().filter(|r| document.has_run(r)) {
                Some(run) => format!("<a class=\"value\" href=\"#run-{}\">{text}</a>", slug(run)),
                None => format!("<span class=\"value\">{text}</span>"),
            }
        }
    }
}

fn table(out: &mut String, t: &Table, document: &Document, anchors: bool) {
    if !t.title.is_empty() {
        out.push_str(&format!("<h2>{}</h2>\n", escape(&t.title)));
    }
    let class = |i: usize| if t.is_numeric(i) { " class=\"n\"" } else { "" };
    out.push_str("<div class=\"scroll\">\n<table>\n<thead><tr>");
    for (i, c) in t.columns.iter().enumerate() {
        write!(out, "<th{}>{}</th>", class(i), escape(c)).expect("a String takes all text");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &t.rows {
        let id = match row.first() {
            Some(Cell::Run(name)) if anchors => format!(" id=\"run-{}\"", slug(name)),
            _ => String::new(),
        };
        out.push_str(&format!("<tr{id}>"));
        for (i, cell) in row.iter().enumerate() {
            let text = escape(&cell.text());
            let inner = match cell {
                Cell::Run(name) if !anchors && document.has_run(name) => {
                    format!("<a href=\"#run-{}\">{text}</a>", slug(name))
                }
                Cell::Text(_) if anchors && i == 1 => format!("<code>{text}</code>"),
                Cell::Empty
                | Cell::Number(_)
                | Cell::Interval(..)
                | Cell::Text(_)
                | Cell::Run(_) => text,
            };
            out.push_str(&format!("<td{}>{inner}</td>", class(i)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{Axis, Chart, Layer, Mark, Point, Shape};
    use crate::color;
    use crate::page::Run;

    const EVIL: &str = "</style><script>alert('1')</script><img src=x onerror=\"a()\">&";

    fn evil() -> Document {
        let run = Run {
            name: EVIL.to_owned(),
            key: EVIL.to_owned(),
            figures: vec![(EVIL.to_owned(), Cell::Text(EVIL.to_owned()))],
        };
        let point = Point { x: 1.0, y: 2.0, label: EVIL.to_owned(), run: EVIL.to_owned() };
        let shape = Shape::Points { points: vec![point], mark: Mark::Dot };
        let chart = Chart {
            title: EVIL.to_owned(),
            note: EVIL.to_owned(),
            x: Axis::linear(EVIL),
            y: Axis::linear(EVIL),
            legend_title: EVIL.to_owned(),
            layers: vec![Layer { name: EVIL.to_owned(), color: color::MAIN, shape }],
        };
        let table = Table {
            title: EVIL.to_owned(),
            columns: vec![EVIL.to_owned(), EVIL.to_owned()],
            rows: vec![vec![Cell::Run(EVIL.to_owned()), Cell::Text(EVIL.to_owned())]],
        };
        let value = Inline::Value { text: EVIL.to_owned(), run: Some(EVIL.to_owned()) };
        let text = vec![Inline::Text(EVIL.to_owned()), value];
        let blocks = vec![Block::Text(text), Block::Chart(chart), Block::Table(table)];
        Document { title: EVIL.to_owned(), blocks, runs: vec![run] }
    }

    #[test]
    fn nothing_of_a_run_becomes_markup() {
        let page = html(&evil());
        assert!(
            !page.contains("<script") && !page.contains("<img") && !page.contains("onerror=\"")
        );
        assert_eq!(page.matches("</style>").count(), 1);
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn the_page_asks_for_nothing_outside_and_is_the_same_each_time() {
        let page = html(&evil());
        assert_eq!(page, html(&evil()));
        // The namespace of SVG is a name, not an address.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "src=", "@import", "<link"] {
            assert!(!page.replace("src=x", "").contains(outside), "{outside}");
        }
    }

    #[test]
    fn values_lead_to_their_runs() {
        let run = Run { name: "iso/07".to_owned(), key: "ab".to_owned(), figures: Vec::new() };
        let value = |name: &str| Inline::Value { text: "2.9".into(), run: Some(name.into()) };
        let blocks = vec![Block::Text(vec![value("iso/07"), value("gone")])];
        let page = html(&Document { title: "t".into(), blocks, runs: vec![run] });
        assert!(page.contains("<a class=\"value\" href=\"#run-iso-07\">2.9</a>"));
        assert!(page.contains("<tr id=\"run-iso-07\">"));
        assert!(page.contains("<span class=\"value\">2.9</span>"));
    }
}
