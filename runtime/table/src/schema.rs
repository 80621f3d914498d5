//! The columns of a run's metrics: one table, read by the writer, by Parquet's metadata and by people.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// As in the files and as `.name` in programs.
    pub name: &'static str,
    /// In the words of the language; empty for plain numbers.
    pub unit: &'static str,
    /// One sentence.
    pub about: &'static str,
}

/// Every column that the trainer itself writes, in the order of the files. Measures of a program follow as `measure:PATH`.
pub const COLUMNS: &[Column] = &[
    Column { name: "step", unit: "steps", about: "Optimizer steps done, from 1." },
    Column { name: "tokens", unit: "tokens", about: "Tokens learned from so far." },
    Column {
        name: "flops",
        unit: "FLOPs",
        about: "Model FLOPs spent so far, counted on the graph.",
    },
    Column {
        name: "share",
        unit: "",
        about: "Share of the budget that is spent once the step is done: a schedule's x.",
    },
    Column { name: "lr", unit: "", about: "Learning rate of the step." },
    Column {
        name: "loss",
        unit: "nats/token",
        about: "Mean training loss over the step's counted targets.",
    },
    Column { name: "grad_norm", unit: "", about: "Global gradient norm before clipping." },
    Column {
        name: "valid_loss",
        unit: "nats/token",
        about: "Mean loss over the whole held-out text after the step.",
    },
    Column { name: "perplexity", unit: "", about: "e to the held-out loss." },
    Column {
        name: "bits_per_byte",
        unit: "bits/bytes",
        about: "Held-out loss per byte of text, in bits.",
    },
];

/// The column of a name, if the trainer itself writes it.
pub fn column(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.name == name)
}

/// Where a column stands among others: schema first, then the rest by name.
pub(crate) fn rank(name: &str) -> usize {
    COLUMNS.iter().position(|column| column.name == name).unwrap_or(COLUMNS.len())
}
