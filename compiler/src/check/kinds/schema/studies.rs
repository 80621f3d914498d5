//! Studies of many runs: sweeps, fits of laws, reports and what is in them.

use super::FieldType::{
    Any, Count, Data, Law, Nodes, Number, Ranges, Row, Setting, Template, Word, Words,
};
use super::{BlockSchema, Field, KindSchema, Range, SWEEPS, fixed, later, may, must};

/// `sweep`.
pub(super) const SWEEP: KindSchema = KindSchema {
    name: "sweep",
    doc: "One node at many points: `for`, `where`, `let`, and `run`.",
    value: None,
    value_only: false,
    fields: &[
        must(
            "run",
            Any,
            "the node at a point: `baseline with { .. }`; with a `runner`, a record of what is asked",
        ),
        may(
            "runner",
            Setting,
            "",
            "who runs the points: `recorded(\"results.csv\")`, `http(\"http://..\", api = \"loss\")`",
        ),
        may("cost", Any, "", "with a `runner`: what an answer costs at the point, FLOPs or time"),
        may(
            "total",
            Number(&["FLOPs", "tokens", "s", "USD"]),
            "",
            "what all points together may cost",
        )
        .within(Range::Positive),
        may("order", Word(&["as_written", "cheapest_first"]), "as_written", "which point is first"),
        may(
            "search",
            Setting,
            "",
            "draws points from distributions: `tpe(minimize = .valid_loss, points = 40)`",
        ),
        may("stop", Any, "", "ends hopeless points early: `halving(..)`"),
        may("best", Row, ".valid_loss", "what the best point has the least of"),
    ],
    blocks: &[],
    facts: &[
        fixed("points", "how many points"),
        fixed("flops", "model FLOPs of all points"),
        later("best", "the settings and results of the best point"),
        later("runs", "the runs"),
        later("metrics", "rows: one for each step of each run"),
    ],
    part: SWEEPS,
};

/// `fit`.
pub(super) const FIT: KindSchema = KindSchema {
    name: "fit",
    doc: "A law through the results of runs.",
    value: None,
    value_only: false,
    fields: &[
        must("runs", Data, "a sweep, or rows made of one"),
        must("law", Law, "`.valid_loss ~ E + A / .params^alpha`"),
        may("free", Ranges, "the law's own parameters", "constants to be found, with their ranges"),
        may(
            "error",
            Setting,
            "squared",
            "what is made small: `huber(1e-3, on = log)`, `squared(on = log)`, `absolute`",
        ),
        may(
            "starts",
            Setting,
            "64 points drawn from the ranges and the data",
            "where the search begins: a number of points, `hoffmann`, or a list of records",
        ),
        may("weight", Row, "", "how much a row counts"),
        may("held_out", Row, "", "rows that are predicted and not fitted: `.flops > 1e18`"),
        may("bootstrap", Count, "0", "resamplings of whole runs for intervals"),
        may("seed", Count, "0", "of the starts and the resamplings"),
    ],
    blocks: &[],
    facts: &[
        later("coefficients", "rows: name, value, interval"),
        later(
            "optimum",
            "the best sizes: `optimum(C)`, or `optimum(minimize = .., such_that = ..)`",
        ),
        later(
            "predict",
            "what the law says at sizes: `predict(params = N, tokens = D)`, with `loss_ci95` of the curve and `loss_pi95` of a run",
        ),
        later("agree", "the share of starts that came to the same end"),
        later(
            "held_out_error",
            "how well the rows of `held_out` are predicted: the mean of |predicted / measured - 1|",
        ),
        later("held_out_r2", "the same as 1 - squared errors / squared distances from the mean"),
        later("residuals", "the rows of the fit, each with `predicted` and `residual`"),
    ],
    part: SWEEPS,
};

/// `report`.
pub(super) const REPORT: KindSchema = KindSchema {
    name: "report",
    doc: "A page of plots, tables and text.",
    value: None,
    value_only: false,
    fields: &[
        may("title", Template, "its name", "the heading"),
        may("text", Template, "", "a paragraph"),
        may(
            "export",
            Words(&["html", "markdown", "svg", "png", "csv", "parquet"]),
            "html",
            "in which forms it is written",
        ),
    ],
    blocks: &[
        BlockSchema { name: "plot", doc: "A plot.", fields: PLOT_FIELDS },
        BlockSchema { name: "table", doc: "A table.", fields: TABLE_FIELDS },
    ],
    facts: &[],
    part: "",
};

/// `plot`.
pub(super) const PLOT: KindSchema = KindSchema {
    name: "plot",
    doc: "A plot on its own.",
    value: None,
    value_only: false,
    fields: PLOT_FIELDS,
    blocks: &[],
    facts: &[],
    part: "",
};

/// `table`.
pub(super) const TABLE: KindSchema = KindSchema {
    name: "table",
    doc: "A table on its own.",
    value: None,
    value_only: false,
    fields: TABLE_FIELDS,
    blocks: &[],
    facts: &[],
    part: "",
};

const PLOT_FIELDS: &[Field] = &[
    must("data", Data, "the rows that are drawn: a sweep, or rows made of one"),
    must("x", Row, "the horizontal value of a row"),
    must("y", Row, "the vertical value of a row"),
    may("color", Row, "", "rows with one value of it share a colour"),
    may(
        "trend",
        Word(&["none", "line", "parabola", "power", "law", "contour"]),
        "none",
        "a curve through the rows of a colour; `contour` draws a law over both axes",
    ),
    may(
        "mark",
        Word(&["none", "minimum", "maximum", "last"]),
        "none",
        "which row of a curve is marked",
    ),
    may("law", Nodes(&["fit"]), "", "the fit whose law is drawn"),
    may("line", Any, "", "a vertical line at a value"),
    may("extend_to", Any, "", "how far the horizontal axis goes on"),
];

const TABLE_FIELDS: &[Field] = &[
    must("rows", Any, "a list of nodes or records, or the coefficients of a fit"),
    may("columns", Row, "every field", "which fields are shown"),
];
