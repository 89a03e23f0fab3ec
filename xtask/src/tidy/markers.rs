//! Rule: nothing is left for later in the source, nothing silences the
//! compiler, and no test sleeps for luck.

use syn::visit::{self, Visit};

use super::Finding;
use super::source::Source;

/// Text that may not appear, and what to do instead. Written in halves, so
/// that this file passes its own rule.
const MARKERS: &[(&str, &str, &str)] = &[
    ("todo", "!(", "write the code"),
    ("unimplemented", "!(", "write the code, or answer with what to do instead"),
    ("dbg", "!(", "use `tracing`"),
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "fix it, or open an issue"),
    ("XX", "X", "finish it, or open an issue"),
    ("#[ign", "ore", "a test that does not run proves nothing: fix it or delete it"),
    ("allow(dead", "_code", "delete what nothing uses"),
    ("allow(un", "used", "delete what nothing uses, handle what is returned"),
];

/// A function that waits for a condition has to pause between two looks; its
/// name begins with one of these, so that a plain pause stands out.
const WAITING: [&str; 5] = ["wait", "poll", "until", "eventually", "retry"];

/// Finds leftover markers everywhere and fixed pauses in tests.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings: Vec<Finding> = source
        .text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| {
            let (marker, advice) = marker_in(line)?;
            Some(Finding::at(&source.path, index + 1, format!("`{marker}`: {advice}")))
        })
        .collect();
    let mut pauses = Pauses { source, function: Vec::new(), findings: Vec::new() };
    pauses.visit_file(&source.syntax);
    findings.extend(pauses.findings);
    findings
}

fn marker_in(line: &str) -> Option<(String, &'static str)> {
    MARKERS.iter().find_map(|(first, second, advice)| {
        let marker = format!("{first}{second}");
        contains_word(line, &marker).then_some((marker, *advice))
    })
}

/// Whether `word` occurs in `line` with no letter, digit or underscore before
/// it, and none after it where the word itself ends in a letter.
fn contains_word(line: &str, word: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let free_before = !line[..start].chars().next_back().is_some_and(is_word);
        let ends_in_word = word.chars().next_back().is_some_and(char::is_uppercase);
        let free_after = !line[start + word.len()..].chars().next().is_some_and(is_word);
        let starts_in_word = word.chars().next().is_some_and(is_word);
        (free_before || !starts_in_word) && (free_after || !ends_in_word)
    })
}

/// Looks for `thread::sleep` in test code outside waiting functions.
struct Pauses<'a> {
    source: &'a Source,
    function: Vec<String>,
    findings: Vec<Finding>,
}

impl Pauses<'_> {
    fn inside_waiting_function(&self) -> bool {
        let starts_like_waiting =
            |name: &String| WAITING.iter().any(|start| name.starts_with(start));
        self.function.iter().any(starts_like_waiting)
    }
}

impl<'ast> Visit<'ast> for Pauses<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function.push(item.sig.ident.to_string());
        visit::visit_item_fn(self, item);
        self.function.pop();
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function.push(item.sig.ident.to_string());
        visit::visit_impl_item_fn(self, item);
        self.function.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(1, |first| first.ident.span().start().line);
        let sleeps = names.ends_with(&["thread".to_owned(), "sleep".to_owned()]);
        if sleeps && self.source.is_test_line(line) && !self.inside_waiting_function() {
            let message = "a test waits on a condition with a deadline, never for a fixed time; \
                           the pause between two looks belongs in a function named `wait_…`";
            self.findings.push(Finding::at(&self.source.path, line, message));
        }
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&Source::parse(path, text.to_owned()).unwrap()).len()
    }

    #[test]
    fn every_marker_is_found() {
        for (first, second, _) in MARKERS {
            let text = format!("// {first}{second} x\n");
            assert_eq!(findings("a.rs", &text), 1, "{text}");
        }
    }

    #[test]
    fn a_template_of_placeholder_letters_is_not_a_marker() {
        let text = format!("// mktemp helix.{}{}\n", "XX", "XXXX");
        assert_eq!(findings("a.rs", &text), 0);
    }

    #[test]
    fn a_fixed_pause_in_a_test_is_found() {
        let text = "#[test]\nfn starts() {\n    std::thread::sleep(D);\n}\n";
        assert_eq!(findings("crates/a/src/lib.rs", text), 1);
        let text = "fn helper() {\n    std::thread::sleep(D);\n}\n";
        assert_eq!(findings("crates/a/tests/start.rs", text), 1);
    }

    #[test]
    fn the_pause_of_a_waiting_function_is_allowed() {
        let text = "fn wait_for_port() {\n    std::thread::sleep(D);\n}\n";
        assert_eq!(findings("crates/a/tests/start.rs", text), 0);
    }
}
