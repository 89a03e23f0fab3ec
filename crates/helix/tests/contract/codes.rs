//! `helix explain` has a page for every code, offline; and completion scripts
//! are scripts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use helix_model::Code;

use crate::world::{Setup, World};

#[test]
fn every_code_has_a_page() {
    let mut world = World::new(Setup::default());
    // Offline: nothing to ask, and no place to look for a context.
    world.set_variable("HELIX_URL", "http://127.0.0.1:1");
    let listed = world.json(&world.work(), ["explain"]);
    let listed: Vec<&str> =
        listed["codes"].as_array().unwrap().iter().filter_map(|code| code.as_str()).collect();
    for code in helix_model::explain::codes() {
        assert!(listed.contains(&code), "{code} is not listed");
    }
    for code in listed {
        let page = world.helix(["explain", code]).ok();
        assert!(page.stdout.starts_with(&format!("{code}: ")), "{}", page.stdout);
        assert!(page.stdout.contains("What to do: "), "{}", page.stdout);
        assert_eq!(page.stderr, "");
    }
}

/// Codes that no test can lead to, and why.
const NOT_REACHED: &[(Code, &str)] = &[(Code::Internal, "only a mistake of ours leads there")];

/// Where a fake API says every code there is; that proves nothing of ours.
const FAKE: &str = "cli/src/tests";

/// What nobody can ever be shown may as well not be promised.
#[test]
fn every_code_is_reached_by_some_test() {
    let mut sources = Vec::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for room in folders(&crates) {
        read_sources(&room.join("tests"), &mut sources);
    }
    let this = file!().rsplit('/').next().unwrap();
    let sources: Vec<String> = sources
        .into_iter()
        .filter(|path| !path.ends_with(this) && !path.to_string_lossy().contains(FAKE))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for code in Code::ALL {
        let (quoted, named) = (format!("\"{code}\""), format!("Code::{code:?}"));
        let is_reached = sources.iter().any(|text| text.contains(&quoted) || text.contains(&named));
        let reason = NOT_REACHED.iter().find(|(it, _)| it == code);
        assert_eq!(is_reached, reason.is_none(), "`{code}`: expected by a test or listed above");
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path()).collect()
}

fn read_sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in folders(path) {
        if entry.is_dir() {
            read_sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Reasons that builds end with are shown to people as codes, too.
#[test]
fn codes_that_errors_show_can_be_explained() {
    let mut world = World::new(Setup::default());
    world.up::<&str>([]);
    let folder = world.work().join("empty");
    std::fs::create_dir(&folder).unwrap();
    let dynamic = world.work().join("dynamic");
    std::fs::create_dir(&dynamic).unwrap();
    std::fs::copy("/bin/ls", dynamic.join("program")).unwrap();
    let missing = world.work().join("missing");
    std::fs::create_dir(&missing).unwrap();
    let manifest = "schema_version = \"v1\"\n[build]\npack = \"static\"\nroot = \"none\"\n\
                    [processes.web]\nports = [{ internal = 8080 }]\n";
    std::fs::write(missing.join("helix.toml"), manifest).unwrap();
    let mut unexplained = Vec::new();
    for folder in [folder, dynamic, missing] {
        let failed = world.helix_in(&folder, ["deploy"]);
        assert_ne!(failed.code, 0);
        let first = failed.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
        let code = first.rsplit_once('(').unwrap().1.trim_end_matches(')');
        if world.helix(["explain", code]).code != 0 {
            unexplained.push(first.to_owned());
        }
    }
    assert!(unexplained.is_empty(), "codes without a page: {unexplained:#?}");
}

#[test]
fn completion_scripts_are_scripts_of_their_shells() {
    let world = World::new(Setup::default());
    for shell in ["bash", "zsh", "fish"] {
        let script = world.helix(["completion", shell]).ok().stdout;
        for word in ["rollback", "instances", "--no-wait"] {
            assert!(script.contains(word) || shell == "fish", "{shell} does not know {word}");
        }
        assert!(script.contains("rollback"), "{shell}");
        assert!(!script.contains("gateways"), "{shell} leads to what does not exist yet");
        let path = world.work().join(shell);
        std::fs::write(&path, script).unwrap();
        let Ok(output) = Command::new(shell).arg("-n").arg(&path).output() else {
            println!("skip {shell} -n: it is not installed");
            continue;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shell} -n: {said}");
    }
}

#[test]
fn bash_completes_what_was_begun() {
    let world = World::new(Setup::default());
    let script = world.work().join("bash");
    std::fs::write(&script, world.helix(["completion", "bash"]).ok().stdout).unwrap();
    let ask = "source \"$1\"; COMP_WORDS=(helix ro); COMP_CWORD=1; _helix helix ro helix; \
               echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", ask, "bash"])
        .arg(&script)
        .stdin(Stdio::null())
        .output()
        .expect("run bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "rollback\n");
}
