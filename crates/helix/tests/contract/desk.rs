//! A desk with a running platform and a small app of our own making.
//!
//! Everything typed goes through [`Desk::run`], which checks what no command may
//! ever do: print the token, or drive a terminal that is not there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::platform::Platform;
use crate::world::{Output, World, tool};

pub use crate::world::tool::{MANIFEST, PROGRAM};

/// A platform, and the folder of an app to type in.
pub struct Desk {
    pub world: World,
    /// The folder with the app's manifest and program.
    pub folder: PathBuf,
    token: String,
}

impl Desk {
    /// A platform in which nothing is deployed.
    pub fn empty() -> Desk {
        let world = World::start::<&str>([]);
        let token = std::fs::read_to_string(world.data().join("token")).expect("read the token");
        let folder = world.work().join("tool");
        std::fs::create_dir(&folder).unwrap();
        tool::write(&folder);
        Desk { folder, token: token.trim().to_owned(), world }
    }

    /// A platform that runs the app.
    pub fn with_app() -> Desk {
        let desk = Desk::empty();
        desk.run(&["deploy"]).ok();
        desk
    }

    /// A command in the app's folder.
    pub fn run(&self, words: &[&str]) -> Output {
        self.run_in(&self.folder, &[], words)
    }

    /// A command in the app's folder, with these environment variables.
    pub fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Output {
        self.run_in(&self.folder, variables, words)
    }

    /// A command anywhere.
    pub fn run_in(&self, directory: &Path, variables: &[(&str, &str)], words: &[&str]) -> Output {
        let mut command = self.world.command(directory);
        command.args(words).envs(variables.iter().copied());
        // Which gives up on one that does not end.
        let output = Platform::spawn(command).wait();
        self.holds_always(words, &output);
        output
    }

    /// The document of a command that must succeed.
    pub fn json(&self, words: &[&str]) -> Value {
        self.run(&[words, &["--json"]].concat()).ok().document()
    }

    /// The API's address.
    pub fn url(&self) -> String {
        let context = self.world.home().join("config/helix/context.json");
        let context: Value = serde_json::from_slice(&std::fs::read(context).unwrap()).unwrap();
        context["url"].as_str().unwrap().to_owned()
    }

    /// Who may do everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    fn holds_always(&self, words: &[&str], output: &Output) {
        for text in [&output.stdout, &output.stderr] {
            assert!(!text.contains('\u{1b}'), "escape codes without a terminal: {words:?}\n{text}");
            assert!(!text.contains(&self.token), "the token is shown: {words:?}\n{text}");
        }
    }
}

/// Asserts that this is a failure as people see it.
#[track_caller]
pub fn is_told(output: &Output, what: &[&str]) {
    assert_eq!(output.stdout, "", "{what:?}: a failure is no result");
    for part in ["error: ", "hint: "] {
        assert!(output.stderr.contains(part), "{what:?}: no `{part}` in\n{}", output.stderr);
    }
}

/// Asserts that this is a failure as scripts see it; the `error` of it.
#[track_caller]
pub fn is_documented(document: &Value, code: i32, what: &[&str]) -> Value {
    let error = &document["error"];
    assert_eq!(error["exit_code"], code, "{what:?}: {document:#}");
    for member in ["code", "title", "detail", "hint"] {
        let text = error[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{what:?}: no `{member}` in {document:#}");
    }
    assert!(error["retryable"].is_boolean(), "{what:?}: {document:#}");
    error.clone()
}
