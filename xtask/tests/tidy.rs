//! Holds the workspace to the rules of [`xtask::tidy`].

use xtask::{tidy, workspace};

#[test]
fn the_source_keeps_its_rules() {
    let findings = tidy::run(&workspace::root()).unwrap();
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
}
