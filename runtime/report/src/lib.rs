//! Reports: charts, tables, HTML, Markdown.
