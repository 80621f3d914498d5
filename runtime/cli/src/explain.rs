//! `cs336c explain CODE`: the page of a code.

use cs336_compiler::explain::{page, titles};
use cs336_lab::{Exit, LabError};

pub(crate) fn explain(code: Option<&str>) -> Result<Exit, LabError> {
    match code {
        None => {
            for (code, title) in titles() {
                crate::print(&format!("{code}  {title}"));
            }
        }
        Some(code) => match page(code) {
            Some(text) => crate::print(text.trim_end()),
            None => {
                crate::print(&format!("there is no code `{code}`; `cs336c explain` lists all"));
                return Ok(Exit::Usage);
            }
        },
    }
    Ok(Exit::Ok)
}
