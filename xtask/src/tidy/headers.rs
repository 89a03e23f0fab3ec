//! Rule: every file opens with `//!`, saying what it owns.

use super::Finding;
use super::source::Source;

/// Finds files that open with anything else.
pub fn check(source: &Source) -> Option<Finding> {
    if source.text.starts_with("//! ") {
        return None;
    }
    Some(Finding::at(&source.path, 1, "open the file with `//!`: what it owns, where to start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_found() {
        let finding = |text: &str| check(&Source::parse("a.rs", text.to_owned()).unwrap());
        assert!(finding("use std::fmt;\n").is_some());
        assert!(finding("").is_some());
        assert!(finding("//! Owns nothing.\nuse std::fmt;\n").is_none());
    }
}
