//! Rule: the core decides without touching the world.
//!
//! `model` and `control` get time and randomness as parameters. Two checks: the
//! packages they may depend on are listed, and their source may not name the
//! doors to the world that `std` and those packages have.

use syn::visit::{self, Visit};

use crate::workspace::Package;

use super::Finding;
use super::source::Source;

/// A pure room and all it may depend on from outside the workspace.
struct PureRoom {
    package: &'static str,
    sources: &'static str,
    may_use: &'static [&'static str],
}

const PURE_ROOMS: &[PureRoom] = &[
    PureRoom {
        package: "helix-model",
        sources: "crates/model/src/",
        may_use: &[
            "serde",
            "serde_json",
            "serde_path_to_error",
            "toml",
            "toml_edit",
            "imbl",
            // Arithmetic on addresses, no sockets.
            "ipnet",
            "regex",
            "ulid",
            "utoipa",
            "thiserror",
            "time",
            "sha2",
            "hex",
            "base64",
            "zeroize",
        ],
    },
    PureRoom {
        package: "helix-control",
        sources: "crates/control/src/",
        may_use: &["serde", "serde_json", "imbl", "ipnet", "thiserror", "sha2"],
    },
];

/// Doors to the world. A path is found when it begins with one of these, or
/// ends with one that has no crate in front.
const DOORS: &[(&str, &str)] = &[
    ("tokio", "the core does not wait"),
    ("rand", "randomness is a parameter"),
    ("getrandom", "randomness is a parameter"),
    ("std::collections::HashMap", "its order is random: use `BTreeMap`"),
    ("std::collections::HashSet", "its order is random: use `BTreeSet`"),
    ("imbl::HashMap", "its order is random: use `imbl::OrdMap`"),
    ("imbl::HashSet", "its order is random: use `imbl::OrdSet`"),
    ("std::fs", "the core has no files"),
    ("std::env", "settings are parameters"),
    ("std::process", "the core starts nothing"),
    ("std::thread", "the core runs where it is called"),
    ("std::os", "the core knows no operating system"),
    ("std::io::stdin", "the core talks to nobody"),
    ("std::io::stdout", "the core talks to nobody"),
    ("std::io::stderr", "the core talks to nobody"),
    ("std::net::TcpStream", "the core has no sockets; addresses are fine"),
    ("std::net::TcpListener", "the core has no sockets; addresses are fine"),
    ("std::net::UdpSocket", "the core has no sockets; addresses are fine"),
    ("std::net::ToSocketAddrs", "the core asks no name server; addresses are fine"),
    ("std::time::SystemTime", "time is a parameter"),
    ("std::time::Instant", "time is a parameter"),
    ("SystemTime::now", "time is a parameter"),
    ("Instant::now", "time is a parameter"),
    ("OffsetDateTime::now_utc", "time is a parameter"),
    ("OffsetDateTime::now_local", "time is a parameter"),
    ("UtcDateTime::now", "time is a parameter"),
    ("Ulid::new", "it reads the clock and draws random bits; take both as parameters"),
    ("Ulid::generate", "it reads the clock and draws random bits; take both as parameters"),
    ("std::sync::Mutex", "the core shares nothing"),
    ("std::sync::RwLock", "the core shares nothing"),
    ("std::sync::OnceLock", "the core has no global state"),
    ("std::sync::LazyLock", "the core has no global state"),
    ("std::sync::atomic", "the core has no global state"),
];

/// Finds dependencies that are not on a pure room's list. Dependencies of tests
/// are free.
pub fn check_dependencies(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in PURE_ROOMS {
        let declared = packages
            .iter()
            .filter(|package| package.name == room.package)
            .flat_map(|package| &package.dependencies)
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
            .filter(|dependency| !dependency.name.starts_with("helix-"));
        for dependency in declared {
            if !room.may_use.contains(&dependency.name.as_str()) {
                let message = format!("a pure room may not use `{}`", dependency.name);
                findings.push(Finding::of(room.package, message));
            }
        }
    }
    findings
}

/// Finds doors to the world in the source of the pure rooms.
pub fn check_source(source: &Source) -> Vec<Finding> {
    if !PURE_ROOMS.iter().any(|room| source.path.starts_with(room.sources)) {
        return Vec::new();
    }
    let mut doors = Doors { source, findings: Vec::new() };
    doors.visit_file(&source.syntax);
    doors.findings
}

struct Doors<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Doors<'_> {
    fn note(&mut self, path: &str, line: usize) {
        if self.source.is_test_line(line) {
            return;
        }
        if let Some((door, reason)) = DOORS.iter().find(|(door, _)| leads_through(path, door)) {
            self.report(line, door, reason);
        }
    }

    fn report(&mut self, line: usize, door: &str, reason: &str) {
        let message = format!("a pure room may not name `{door}`: {reason}");
        self.findings.push(Finding::at(&self.source.path, line, message));
    }

    fn note_use(&mut self, before: &str, tree: &syn::UseTree) {
        let joined = |ident: &syn::Ident| format!("{before}{ident}");
        match tree {
            syn::UseTree::Path(path) => {
                self.note_use(&format!("{}::", joined(&path.ident)), &path.tree);
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.note(before.trim_end_matches(':'), name.ident.span().start().line);
            }
            syn::UseTree::Name(name) => {
                self.note(&joined(&name.ident), name.ident.span().start().line);
            }
            syn::UseTree::Rename(rename) => {
                self.note(&joined(&rename.ident), rename.ident.span().start().line);
            }
            syn::UseTree::Glob(glob) => {
                self.note(&format!("{before}*"), glob.star_token.spans[0].start().line);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_use(before, tree);
                }
            }
        }
    }
}

fn leads_through(path: &str, door: &str) -> bool {
    let begins =
        path.strip_prefix(door).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let ends = !door.starts_with("std::")
        && door.contains("::")
        && path
            .strip_suffix(door)
            .is_some_and(|before| before.is_empty() || before.ends_with("::"));
    begins || ends
}

impl<'ast> Visit<'ast> for Doors<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(1, |first| first.ident.span().start().line);
        self.note(&names.join("::"), line);
        visit::visit_path(self, path);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let line = signature.fn_token.span.start().line;
        if signature.asyncness.is_some() && !self.source.is_test_line(line) {
            self.report(line, "async fn", "the core does not wait");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        // What is inside a macro call is only tokens here: look at its text.
        let line = invocation.bang_token.spans[0].start().line;
        let text = invocation.tokens.to_string().replace(' ', "");
        if !self.source.is_test_line(line)
            && let Some((door, reason)) =
                DOORS.iter().find(|(door, _)| door.contains("::") && text.contains(door))
        {
            self.report(line, door, reason);
        }
        visit::visit_macro(self, invocation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn findings(path: &str, text: &str) -> usize {
        check_source(&Source::parse(path, text.to_owned()).unwrap()).len()
    }

    #[test]
    fn doors_to_the_world_are_found() {
        for text in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::env::{self};",
            "use tokio::*;",
            "use std::thread as t;",
            "fn f() { std::process::id(); }",
            "fn f() -> std::time::Instant { g() }",
            "fn f() { Ulid::new(); }",
            "fn f() { time::OffsetDateTime::now_utc(); }",
            "fn f() { format!(\"{:?}\", std::env::args()); }",
            "async fn f() {}",
            "use std::net::TcpStream;",
            "use std::collections::{BTreeMap, HashMap};",
        ] {
            assert_eq!(findings("crates/model/src/app.rs", text), 1, "{text}");
        }
    }

    #[test]
    fn pure_code_tests_and_other_rooms_are_free() {
        for text in [
            "use std::net::{IpAddr, Ipv6Addr};\nuse std::time::Duration;",
            "fn f(now: Timestamp) { ulid::Ulid::from_parts(1, 2); }",
            "#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
        ] {
            assert_eq!(findings("crates/control/src/place.rs", text), 0, "{text}");
        }
        assert_eq!(findings("crates/node/src/agent.rs", "use std::fs;"), 0);
    }

    #[test]
    fn a_dependency_that_is_not_listed_is_found() {
        let dependency = |name: &str, kind: Option<&str>| Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
        };
        let model = Package {
            name: "helix-model".to_owned(),
            dependencies: vec![
                dependency("serde", None),
                dependency("proptest", Some("dev")),
                dependency("tokio", None),
            ],
            targets: Vec::new(),
        };
        let findings = check_dependencies(&[model]);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("`tokio`"));
    }
}
