//! Rule: relative links in the documents lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Finding;

/// Directories whose documents are checked, with what is below them; of the
/// root only what is directly in it.
const BELOW: [&str; 2] = ["docs", "examples"];

/// Finds links of the workspace's documents that lead nowhere.
///
/// # Errors
/// When a document cannot be read.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut documents = Vec::new();
    collect(root, false, &mut documents)?;
    for directory in BELOW.map(|name| root.join(name)) {
        if directory.is_dir() {
            collect(&directory, true, &mut documents)?;
        }
    }
    let mut findings = Vec::new();
    for path in documents {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
        let directory = path.parent().unwrap_or(root);
        findings.extend(check_document(&below, &text, |target| directory.join(target).exists()));
    }
    Ok(findings)
}

fn collect(directory: &Path, deep: bool, documents: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
        if deep && path.is_dir() {
            collect(&path, deep, documents)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    Ok(())
}

fn check_document(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        for target in targets(line).filter_map(file_part).filter(|target| !exists(target)) {
            findings.push(Finding::at(path, index + 1, format!("`{target}` does not exist")));
        }
    }
    findings
}

/// What the links and images of a line point at.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let markdown = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let html = line.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    markdown.chain(html)
}

/// The file a link points at, if it is one of ours.
fn file_part(target: &str) -> Option<&str> {
    let file = target.split(['#', ' ']).next().unwrap_or_default();
    let elsewhere = file.contains("://") || file.starts_with("mailto:");
    (!file.is_empty() && !elsewhere).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let exists = |target: &str| target == "docs/there.md";
        check_document("README.md", text, exists).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "Fine.\n\nSee [a](docs/there.md) and [b](docs/gone.md#part).\n";
        assert_eq!(findings(text), ["README.md:3: `docs/gone.md` does not exist"]);
        assert_eq!(findings("<img src=\"docs/gone.png\">").len(), 1);
    }

    #[test]
    fn other_links_are_left_alone() {
        let text = "[a](https://example.com/x) [b](#part) [c](docs/there.md#x)\n\
                    ```\n[d](nowhere.md)\n```\n";
        assert_eq!(findings(text), [""; 0]);
    }
}
