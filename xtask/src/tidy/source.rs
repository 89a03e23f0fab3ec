//! The workspace's Rust files, parsed, with the lines that are only tests
//! marked: most rules are about the product and leave tests alone.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Directories below the root that hold source.
const ROOMS: [&str; 2] = ["crates", "xtask"];

/// One Rust file.
pub struct Source {
    /// Below the workspace root, with `/` between the parts.
    pub path: String,
    pub text: String,
    pub syntax: syn::File,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// Parses a file's text.
    ///
    /// # Errors
    /// When it is not Rust.
    pub fn parse(path: &str, text: String) -> Result<Self> {
        let syntax = syn::parse_file(&text).with_context(|| format!("parse {path}"))?;
        let mut finder = TestLines::default();
        finder.visit_file(&syntax);
        Ok(Self { path: path.to_owned(), text, syntax, test_lines: finder.found })
    }

    /// Whether the whole file is only compiled for tests.
    pub fn is_test_file(&self) -> bool {
        let mut parts: Vec<&str> = self.path.split('/').collect();
        let file = parts.pop().unwrap_or_default();
        file == "tests.rs"
            || file.ends_with("_tests.rs")
            || parts.iter().any(|part| matches!(*part, "tests" | "benches"))
    }

    /// Whether a line, counted from 1, is only compiled for tests.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.test_lines.iter().any(|range| range.contains(&line))
    }

    /// How many lines of the file are not only tests.
    pub fn product_lines(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test_line(*line)).count()
    }
}

/// Reads every Rust file of the workspace at `root`.
///
/// # Errors
/// When one cannot be read or parsed.
pub fn read_all(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for room in ROOMS {
        read_below(root, &root.join(room), &mut sources)?;
    }
    sources.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(sources)
}

fn read_below(root: &Path, directory: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                read_below(root, &path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source::parse(&below, text)?);
        }
    }
    Ok(())
}

/// Collects the extent of everything under `#[cfg(test)]` or `#[test]`.
#[derive(Default)]
struct TestLines {
    found: Vec<RangeInclusive<usize>>,
}

impl TestLines {
    fn note(&mut self, attributes: &[syn::Attribute], item: &impl Spanned) {
        if attributes.iter().any(is_test_attribute) {
            let span = item.span();
            self.found.push(span.start().line..=span.end().line);
        }
    }
}

fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("cfg") {
        // `cfg(test)` and `cfg(all(test, …))`, but not `cfg(not(test))`.
        return attribute.meta.require_list().is_ok_and(|list| {
            let tokens = list.tokens.to_string();
            !tokens.contains("not")
                && tokens.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
        });
    }
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.note(&item.attrs, item);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.attrs, item);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.note(&item.attrs, item);
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.attrs, item);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note(&item.attrs, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_do_not_count_as_product() {
        let text = "//! A.\nfn product() {}\n\n#[cfg(test)]\nmod tests {\n    fn helper() {}\n}\n";
        let source = Source::parse("crates/a/src/lib.rs", text.to_owned()).unwrap();
        assert_eq!(source.product_lines(), 3);
        assert!(!source.is_test_line(2));
        assert!(source.is_test_line(6));
    }

    #[test]
    fn what_is_compiled_without_tests_is_product() {
        let text = "#[cfg(not(test))]\nmod real {\n}\n";
        let source = Source::parse("crates/a/src/lib.rs", text.to_owned()).unwrap();
        assert_eq!(source.product_lines(), 3);
    }

    #[test]
    fn files_of_tests_are_known_by_their_path() {
        let is_test = |path| Source::parse(path, String::new()).unwrap().is_test_file();
        assert!(is_test("crates/a/tests/deploy.rs"));
        assert!(is_test("crates/a/src/parse/tests.rs"));
        assert!(!is_test("crates/a/src/contests.rs"));
    }
}
