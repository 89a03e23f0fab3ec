//! Whole command lines, against a double of the wire.
//!
//! [`World`] is one person's machine: a home, a folder, streams that are
//! caught, and an API that answers reads from a real fold of a real history
//! ([`fixture`]). Only the wire is a double ([`wire`]); the server itself is
//! tested end to end elsewhere.

pub(crate) mod fixture;
mod wire;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use expect_test::expect;
use helix_model::{Code, Problem};
use serde_json::Value;

use crate::commands::admin::Offline;
use crate::commands::roles::{EdgeOptions, NodeOptions, Role, Roles, ServerOptions};
use crate::commands::up::{Platform, Up, UpOptions};
use crate::context::{self, Context};
use crate::io::{Environment, Io, Terminals};

/// A signal reaches every `up` of this process, so there is one at a time.
static SIGNALS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A stream that is caught.
#[derive(Clone, Default)]
struct Caught(Arc<Mutex<Vec<u8>>>);

impl Write for Caught {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Caught {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a command line came to.
struct Outcome {
    code: u8,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The one document on standard output.
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A machine of one person.
struct World {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl World {
    /// No context, no platform.
    fn empty() -> World {
        World { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// A context that leads to an API with the fixture's history.
    async fn with_api() -> (World, wire::Wire) {
        World::before(wire::Wire::start().await)
    }

    /// The same with an API of one's own.
    fn before(wire: wire::Wire) -> (World, wire::Wire) {
        let world = World::empty();
        let context = Context {
            url: wire.url.clone(),
            token: Some(wire::TOKEN.to_owned()),
            org: None,
            project: None,
            env: Some("production".parse().unwrap()),
            data_dir: None,
            logins: std::collections::BTreeMap::new(),
        };
        context::save(&world.environment(), &context).unwrap();
        (world, wire)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The folder commands are typed in; its name is the fixture's app.
    fn folder(&self) -> std::path::PathBuf {
        let folder = self.home.path().join("hello");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn environment(&self) -> Environment {
        let home = self.home.path().display().to_string();
        let mut variables = vec![("HOME".to_owned(), home)];
        variables.extend(self.variables.iter().cloned());
        Environment::from_pairs(variables)
    }

    async fn helix(&self, line: &[&str]) -> Outcome {
        self.helix_with(line, &NoPlatform).await
    }

    /// A person at a terminal, who answers questions with this.
    async fn answering(&self, answer: &str, line: &[&str]) -> Outcome {
        let terminals = Terminals { stdin: true, stdout: false, stderr: true };
        let stdin = std::io::Cursor::new(answer.to_owned());
        self.helix_on(line, &NoPlatform, terminals, Box::new(stdin)).await
    }

    async fn helix_with(&self, line: &[&str], up: &dyn Roles) -> Outcome {
        self.helix_on(line, up, Terminals::default(), Box::new(std::io::empty())).await
    }

    async fn helix_on(
        &self,
        line: &[&str],
        up: &dyn Roles,
        terminals: Terminals,
        stdin: Box<dyn std::io::Read + Send>,
    ) -> Outcome {
        let (stdout, stderr) = (Caught::default(), Caught::default());
        let io = Io {
            stdin,
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            terminals,
            environment: self.environment(),
            directory: self.folder(),
            executable: std::env::current_exe().unwrap(),
        };
        let line = std::iter::once("helix").chain(line.iter().copied()).map(OsString::from);
        let code = crate::run(line, io, up).await;
        Outcome { code, stdout: stdout.text(), stderr: stderr.text() }
    }
}

/// Where no platform can be started.
struct NoPlatform;

impl Offline for NoPlatform {}

#[async_trait]
impl Up for NoPlatform {
    async fn start(&self, _options: &UpOptions) -> Result<Box<dyn Platform>, Problem> {
        Err(Problem::new(Code::Unavailable, "no platform in this test"))
    }
}

/// The wire double as a platform that ends once the app has been reported.
struct ShortLived {
    url: String,
}

impl Offline for ShortLived {}

#[async_trait]
impl Up for ShortLived {
    async fn start(&self, _options: &UpOptions) -> Result<Box<dyn Platform>, Problem> {
        Ok(Box::new(ShortLived { url: self.url.clone() }))
    }
}

#[async_trait]
impl Platform for ShortLived {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn token(&self) -> String {
        wire::TOKEN.to_owned()
    }

    async fn ended(&mut self) -> Problem {
        std::future::pending().await
    }

    async fn stop(self: Box<Self>) -> Result<(), Problem> {
        Ok(())
    }
}

/// Ages and moments differ from run to run.
fn without_ages(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for line in text.lines() {
        let kept: Vec<&str> = line.split(' ').filter(|word| !is_age(word)).collect();
        words.push(kept.join(" ").trim_end().to_owned());
    }
    words.join("\n") + "\n"
}

fn is_age(word: &str) -> bool {
    let digits = word.trim_end_matches(['s', 'm', 'h', 'd']);
    digits.len() + 1 == word.len()
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

mod deploying;
mod failing;
mod grammar;
mod reading;
mod tenancy;
mod tunnels;

/// What no test of this crate starts.
trait WithoutRoles {}
impl WithoutRoles for NoPlatform {}
impl WithoutRoles for ShortLived {}

#[async_trait]
impl<T: WithoutRoles + Up> Roles for T {
    async fn server(&self, _options: ServerOptions) -> Result<Box<dyn Role>, Problem> {
        panic!("no test starts a server");
    }

    async fn node(&self, _options: NodeOptions) -> Result<Box<dyn Role>, Problem> {
        panic!("no test starts a node");
    }

    async fn edge(&self, _options: EdgeOptions) -> Result<Box<dyn Role>, Problem> {
        panic!("no test starts an edge");
    }
}
