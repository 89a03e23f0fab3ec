//! Rule: files and functions stay small. What is too large today is listed in
//! `xtask/tidy-ratchet.toml` with its present size, which may only go down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use super::functions;
use super::sizes::{FILE_LINES, FILE_LINES_AT_MOST, FUNCTION_LINES};
use super::source::Source;

/// Where the ratchet is kept, below the workspace root.
pub const PATH: &str = "xtask/tidy-ratchet.toml";

/// What may be larger than the limits, and how large.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratchet {
    /// Lines by path.
    #[serde(default)]
    files: BTreeMap<String, usize>,
    /// Lines by `path::function`.
    #[serde(default)]
    functions: BTreeMap<String, usize>,
}

impl Ratchet {
    /// Reads the ratchet of the workspace at `root`.
    ///
    /// # Errors
    /// When it is missing or is not what this expects.
    pub fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(PATH)).with_context(|| format!("read {PATH}"))?;
        toml::from_str(&text).with_context(|| format!("parse {PATH}"))
    }

    /// Finds what is larger than it may be, and entries that can be lowered or
    /// removed.
    pub fn check(&self, sources: &[Source]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut file_sizes = BTreeMap::new();
        let mut function_sizes = BTreeMap::new();
        for source in sources {
            let lines = source.product_lines();
            file_sizes.insert(source.path.clone(), lines);
            findings.extend(check_file(&source.path, lines, self.files.get(&source.path)));
            for function in functions::measure(source) {
                let key = format!("{}::{}", source.path, function.name);
                let allowed = self.functions.get(&key).copied().unwrap_or(FUNCTION_LINES);
                if function.lines > allowed {
                    findings.push(Finding::at(
                        &source.path,
                        function.line,
                        format!(
                            "`{}` has {} lines, at most {allowed}",
                            function.name, function.lines
                        ),
                    ));
                }
                // Two functions of one name in a file (two `impl` blocks for
                // one trait): the entry speaks of the longer.
                let longest = function_sizes.entry(key).or_insert(0);
                *longest = function.lines.max(*longest);
            }
        }
        findings.extend(slack(&self.files, &file_sizes, FILE_LINES));
        findings.extend(slack(&self.functions, &function_sizes, FUNCTION_LINES));
        findings
    }
}

fn check_file(path: &str, lines: usize, entry: Option<&usize>) -> Option<Finding> {
    let allowed = entry.copied().unwrap_or(FILE_LINES).min(FILE_LINES_AT_MOST);
    if lines <= allowed {
        return None;
    }
    let message = format!("{lines} lines outside tests, at most {allowed}: split it by noun");
    Some(Finding::of(path, message))
}

/// Entries that promise less than what is true by now.
fn slack(
    entries: &BTreeMap<String, usize>,
    sizes: &BTreeMap<String, usize>,
    limit: usize,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, &allowed) in entries {
        let message = match sizes.get(key) {
            None => format!("`{key}` is gone: remove its entry"),
            Some(&lines) if lines <= limit => {
                format!("`{key}` is within the limit: remove its entry")
            }
            Some(&lines) if lines < allowed => {
                format!(
                    "`{key}` has {lines} lines: lower its entry from {allowed} (it may only go down)"
                )
            }
            Some(_) => continue,
        };
        findings.push(Finding::of(PATH, message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(lines: usize) -> Source {
        Source::parse("crates/a/src/b.rs", "//! Lines.\n".repeat(lines)).unwrap()
    }

    fn function_of(lines: usize) -> Source {
        let text =
            format!("//! One function.\nfn long() {{\n{}}}\n", "    f();\n".repeat(lines - 2));
        Source::parse("crates/a/src/b.rs", text).unwrap()
    }

    fn messages(ratchet: &str, source: Source) -> Vec<String> {
        let ratchet: Ratchet = toml::from_str(ratchet).unwrap();
        ratchet.check(&[source]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_large_file_is_found_unless_listed() {
        assert_eq!(messages("", file_of(600)), [""; 0]);
        assert_eq!(messages("", file_of(601)).len(), 1);
        assert_eq!(messages("files = { 'crates/a/src/b.rs' = 700 }", file_of(700)), [""; 0]);
        assert_eq!(messages("files = { 'crates/a/src/b.rs' = 700 }", file_of(701)).len(), 1);
    }

    #[test]
    fn no_entry_allows_more_than_a_thousand_lines() {
        assert_eq!(messages("files = { 'crates/a/src/b.rs' = 1001 }", file_of(1001)).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_unless_listed() {
        assert_eq!(messages("", function_of(70)), [""; 0]);
        assert_eq!(messages("", function_of(71)).len(), 1);
        assert_eq!(
            messages("functions = { 'crates/a/src/b.rs::long' = 71 }", function_of(71)),
            [""; 0]
        );
    }

    #[test]
    fn an_entry_may_only_go_down() {
        let lowered = messages("files = { 'crates/a/src/b.rs' = 800 }", file_of(700));
        assert!(lowered[0].contains("lower its entry from 800"), "{lowered:?}");
        let done = messages("functions = { 'crates/a/src/b.rs::long' = 90 }", function_of(20));
        assert!(done[0].contains("remove its entry"), "{done:?}");
        let gone = messages("files = { 'crates/a/src/c.rs' = 800 }", file_of(10));
        assert!(gone[0].contains("is gone"), "{gone:?}");
    }
}
