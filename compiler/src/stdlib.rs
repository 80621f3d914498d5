//! The standard library: `.cs336` files in `stdlib/`, embedded.

/// Module name and text. `prelude` is in sight everywhere; the others come by `use std.NAME`.
pub const MODULES: &[(&str, &str)] = &[
    ("prelude", include_str!("../../stdlib/prelude.cs336")),
    ("layers", include_str!("../../stdlib/layers.cs336")),
    ("models", include_str!("../../stdlib/models.cs336")),
    ("cost", include_str!("../../stdlib/cost.cs336")),
    ("laws", include_str!("../../stdlib/laws.cs336")),
    ("hardware", include_str!("../../stdlib/hardware.cs336")),
    ("text", include_str!("../../stdlib/text.cs336")),
];

/// The text of a module.
pub fn module(name: &str) -> Option<&'static str> {
    MODULES.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
}
