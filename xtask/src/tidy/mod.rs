//! The rules the source must keep, checked by `cargo xtask tidy` and by the
//! tidy test: one file per rule, each with a test proving that it can fail.
//!
//! Start at [`run`]. A rule takes what it needs as plain values and returns
//! [`Finding`]s, so that its test can feed it a bad sample.

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::workspace;

pub mod edges;
pub mod functions;
pub mod headers;
pub mod links;
pub mod markers;
pub mod pure;
pub mod ratchet;
pub mod sizes;
pub mod source;

use ratchet::Ratchet;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A path below the workspace root, or a package's name.
    pub place: String,
    /// Counted from 1; `None` when the whole place is meant.
    pub line: Option<usize>,
    pub message: String,
}

impl Finding {
    pub(crate) fn at(place: &str, line: usize, message: impl Into<String>) -> Self {
        Self { place: place.to_owned(), line: Some(line), message: message.into() }
    }

    pub(crate) fn of(place: &str, message: impl Into<String>) -> Self {
        Self { place: place.to_owned(), line: None, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.place, self.message),
            None => write!(formatter, "{}: {}", self.place, self.message),
        }
    }
}

/// Checks every rule on the workspace at `root`.
///
/// # Errors
/// When a file cannot be read or parsed; a broken rule is a finding instead.
pub fn run(root: &Path) -> Result<Vec<Finding>> {
    let sources = source::read_all(root)?;
    let packages = workspace::metadata(root)?.packages;
    let ratchet = Ratchet::read(root)?;
    let mut findings = edges::check(&packages);
    findings.extend(pure::check_dependencies(&packages));
    findings.extend(ratchet.check(&sources));
    findings.extend(links::check(root)?);
    for source in &sources {
        findings.extend(headers::check(source));
        findings.extend(markers::check(source));
        findings.extend(pure::check_source(source));
    }
    Ok(findings)
}
