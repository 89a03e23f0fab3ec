//! The rules: from the file as written to a [`Manifest`] with every default.
//!
//! Every flaw is collected, not only the first, because a person fixes a file
//! in one go.

use std::collections::BTreeMap;

use super::source::{self, Source};
use super::{
    AskedEndpoint, Build, Endpoint, Flaw, MANIFEST_BYTES_MAX, Manifest, ManifestError, Network,
    Pack, Port, Process, Secrets, Transport, locate,
};
use crate::Name;

mod endpoint;
pub(super) mod process;
mod release_command;
mod volume;

/// Reads and validates a manifest.
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(whole_file(format!("longer than {MANIFEST_BYTES_MAX} bytes")));
    }
    let source: Source = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let mut checker = Checker { text, flaws: Vec::new() };
    let manifest = checker.manifest(source);
    if checker.flaws.is_empty() {
        Ok(manifest)
    } else {
        Err(ManifestError { flaws: checker.flaws })
    }
}

/// The manifest of an app that has none: one `web` process with one port.
pub fn parse_with_defaults(port: u16) -> Manifest {
    let web = process::with_defaults(Port {
        name: literal("http"),
        internal: port,
        transport: Transport::Tcp,
    });
    let processes = BTreeMap::from([(literal("web"), web)]);
    let endpoints = endpoint::defaults(&processes);
    Manifest {
        name: None,
        image: None,
        build: Build::default(),
        processes,
        endpoints,
        secrets: Secrets::default(),
        network: Network::default(),
        release_command: None,
        volumes: BTreeMap::new(),
    }
}

/// An endpoint of these processes, apart from a manifest, or what is wrong with it.
pub fn check_endpoint(
    asked: AskedEndpoint,
    processes: &BTreeMap<Name, Process>,
) -> Result<Endpoint, Vec<Flaw>> {
    let mut checker = Checker { text: "", flaws: Vec::new() };
    match checker.endpoint("endpoint", asked, processes) {
        Some(endpoint) if checker.flaws.is_empty() => Ok(endpoint),
        _ => Err(checker.flaws),
    }
}

/// A name that is known to be valid.
fn literal(text: &'static str) -> Name {
    // Only called with the words in this file, each of which a test parses.
    text.parse().unwrap_or_else(|_| unreachable!("`{text}` is a valid name"))
}

fn whole_file(message: String) -> ManifestError {
    let flaw = Flaw { field: String::new(), message, line: 1, column: 1 };
    ManifestError { flaws: vec![flaw] }
}

fn syntax(text: &str, error: &toml::de::Error) -> ManifestError {
    let (line, column) = locate::position(text, error.span().map_or(0, |span| span.start));
    let message = error.message().to_owned();
    ManifestError { flaws: vec![Flaw { field: String::new(), message, line, column }] }
}

struct Checker<'t> {
    text: &'t str,
    flaws: Vec<Flaw>,
}

impl Checker<'_> {
    fn flaw(&mut self, field: &str, message: impl Into<String>) {
        let (line, column) = locate::field(self.text, field);
        let message = message.into();
        self.flaws.push(Flaw { field: field.to_owned(), message, line, column });
    }

    fn manifest(&mut self, mut source: Source) -> Manifest {
        match source.schema_version.as_deref() {
            Some("v1") => {}
            Some(_) => self.flaw("schema_version", "unknown; this version reads \"v1\""),
            None => self.flaw("schema_version", "missing; begin with schema_version = \"v1\""),
        }
        if source.app.description.as_ref().is_some_and(|text| text.chars().count() > 256) {
            self.flaw("app.description", "longer than 256 characters");
        }
        let first =
            self.prestart("env", source.env.prestart.take(), source.env.prestart_timeout_seconds);
        self.vars("env.vars", &source.env.vars);
        match source.image.pull_policy.as_deref() {
            None | Some("if_not_present" | "always") => {}
            Some(_) => self.flaw("image.pull_policy", "use \"if_not_present\" or \"always\""),
        }
        if source.processes.is_empty() {
            self.flaw("processes", "at least one [processes.NAME] is needed");
        }
        let name = source.app.name.as_deref().and_then(|name| self.name("app.name", name));
        let build = self.build(source.build);
        let mut processes = BTreeMap::new();
        for (name, process) in source.processes {
            let field = format!("processes.{name}");
            let mut checked = self.process(&field, process, &source.env);
            checked.prestart.splice(0..0, first.clone());
            if let Some(name) = self.name(&field, &name) {
                processes.insert(name, checked);
            }
        }
        let endpoints = self.endpoints(source.endpoints, &processes);
        let secrets = Secrets { required: source.secrets.required };
        let network = Network { intra_env: source.network.intra_env };
        let volumes = self.volumes(source.volumes);
        self.volume_owners(&volumes, &processes);
        let release_command = self.release_command(source.deploy, &processes);
        let image = source.image.reference;
        Manifest {
            name,
            image,
            build,
            processes,
            endpoints,
            secrets,
            network,
            release_command,
            volumes,
        }
    }

    fn name(&mut self, field: &str, text: &str) -> Option<Name> {
        text.parse()
            .map_err(|error: crate::name::NameError| self.flaw(field, error.to_string()))
            .ok()
    }

    fn vars(&mut self, field: &str, vars: &BTreeMap<String, String>) {
        for key in vars.keys().filter(|key| !is_variable_name(key)) {
            self.flaw(&format!("{field}.{key}"), "variable names use A-Z, 0-9 and _");
        }
    }

    fn build(&mut self, source: source::Build) -> Build {
        let pack = match source.pack.as_deref() {
            None => None,
            Some("static") => Some(Pack::Static),
            Some("binary") => Some(Pack::Binary),
            Some("dockerfile") => Some(Pack::Dockerfile),
            Some(_) => {
                self.flaw("build.pack", "use \"static\", \"binary\" or \"dockerfile\"");
                None
            }
        };
        let paths = [
            ("build.root", &source.root),
            ("build.binary", &source.binary),
            ("build.dockerfile", &source.dockerfile),
        ];
        for (field, path) in paths {
            let leaves =
                |path: &String| path.starts_with('/') || path.split('/').any(|p| p == "..");
            if path.as_ref().is_some_and(leaves) {
                self.flaw(field, "must stay inside the folder of the manifest");
            }
        }
        Build { pack, root: source.root, binary: source.binary, dockerfile: source.dockerfile }
    }
}

/// Whether a variable may be called this.
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_uppercase() || b == b'_');
    starts && bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests;
