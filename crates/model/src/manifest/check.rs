//! The rules: from the file as written to a [`Manifest`] with every default.
//!
//! Every flaw is collected, not only the first, because a person fixes a file
//! in one go.

use std::collections::BTreeMap;

use super::quantity::parse_bytes;
use super::source::{self, Source};
use super::{
    Build, Check, Endpoint, Exposure, Flaw, Health, MANIFEST_BYTES_MAX, Manifest, ManifestError,
    Pack, Port, Process, Resources, Restart, RestartPolicy, Scaling, locate,
};
use crate::Name;

const MEMORY_DEFAULT_BYTES: u64 = 256 << 20;
/// Below this a container's own bookkeeping leaves nothing for the program.
const MEMORY_MIN_BYTES: u64 = 64 << 20;
const DISK_DEFAULT_BYTES: u64 = 4 << 30;
const DISK_MIN_BYTES: u64 = 1 << 30;
/// The most one Firecracker microVM can have; the same everywhere, so that a
/// manifest does not depend on the isolation it meets.
const CPU_MAX: f64 = 32.0;
const INSTANCES_MAX: u32 = 100;
const STOP_GRACE_DEFAULT_SECONDS: u64 = 10;
/// Long-lived connections are a stated use; a day is beyond any drain.
const STOP_GRACE_MAX_SECONDS: u64 = 24 * 3600;

/// Reads and validates a manifest.
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(whole_file(format!(
            "longer than {MANIFEST_BYTES_MAX} bytes"
        )));
    }
    let source: Source = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let mut checker = Checker {
        text,
        flaws: Vec::new(),
    };
    let manifest = checker.manifest(source);
    if checker.flaws.is_empty() {
        Ok(manifest)
    } else {
        Err(ManifestError {
            flaws: checker.flaws,
        })
    }
}

/// The manifest of an app that has none: one `web` process with one port.
pub fn parse_with_defaults(port: u16) -> Manifest {
    let port = Port {
        name: literal("http"),
        internal: port,
    };
    let health = default_health(&port);
    let web = Process {
        command: None,
        workdir: None,
        user: None,
        vars: BTreeMap::new(),
        resources: Resources {
            memory_bytes: MEMORY_DEFAULT_BYTES,
            cpu: 1.0,
            disk_bytes: DISK_DEFAULT_BYTES,
        },
        scaling: Scaling { min: 1, max: 1 },
        restart: Restart {
            policy: RestartPolicy::Always,
            max_retries: 3,
            backoff_seconds: 2,
        },
        ports: vec![port],
        health: Some(health),
        stop_grace_seconds: STOP_GRACE_DEFAULT_SECONDS,
    };
    let processes = BTreeMap::from([(literal("web"), web)]);
    let endpoints = default_endpoints(&processes);
    Manifest {
        name: None,
        image: None,
        build: Build::default(),
        processes,
        endpoints,
    }
}

/// A name that is known to be valid.
fn literal(text: &'static str) -> Name {
    // Only called with the words in this file, each of which a test parses.
    text.parse()
        .unwrap_or_else(|_| unreachable!("`{text}` is a valid name"))
}

fn whole_file(message: String) -> ManifestError {
    let flaw = Flaw {
        field: String::new(),
        message,
        line: 1,
        column: 1,
        deferred: false,
    };
    ManifestError { flaws: vec![flaw] }
}

fn syntax(text: &str, error: &toml::de::Error) -> ManifestError {
    let (line, column) = locate::position(text, error.span().map_or(0, |span| span.start));
    let message = error.message().to_owned();
    ManifestError {
        flaws: vec![Flaw {
            field: String::new(),
            message,
            line,
            column,
            deferred: false,
        }],
    }
}

fn default_health(port: &Port) -> Health {
    Health {
        check: Check::Tcp,
        port: port.name.clone(),
        interval_seconds: 10,
        timeout_seconds: 2,
        grace_seconds: 10,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

/// Without `[[endpoints]]`, the first port of `web` (else of the first process
/// that has one) is reachable by host name and on port 80 of the env's address:
/// what someone who deploys a first app expects to find.
fn default_endpoints(processes: &BTreeMap<Name, Process>) -> Vec<Endpoint> {
    let web = processes
        .get_key_value(&literal("web"))
        .filter(|(_, p)| !p.ports.is_empty());
    let chosen = web.or_else(|| {
        processes
            .iter()
            .find(|(_, process)| !process.ports.is_empty())
    });
    let Some((process, spec)) = chosen else {
        return Vec::new();
    };
    let to = |name: &'static str, exposure| Endpoint {
        name: literal(name),
        process: process.clone(),
        port: spec.ports[0].name.clone(),
        exposure,
    };
    vec![
        to("http", Exposure::Http { host: None }),
        to("tcp-80", Exposure::Tcp { listen_port: 80 }),
    ]
}

struct Checker<'t> {
    text: &'t str,
    flaws: Vec<Flaw>,
}

impl Checker<'_> {
    fn flaw(&mut self, field: &str, message: impl Into<String>) {
        let (line, column) = locate::field(self.text, field);
        let message = message.into();
        self.flaws.push(Flaw {
            field: field.to_owned(),
            message,
            line,
            column,
            deferred: false,
        });
    }

    fn deferred(&mut self, field: &str, present: bool, instead: &str) {
        if present {
            self.flaw(field, format!("not supported yet: {instead}"));
            if let Some(flaw) = self.flaws.last_mut() {
                flaw.deferred = true;
            }
        }
    }

    fn manifest(&mut self, source: Source) -> Manifest {
        match source.schema_version.as_deref() {
            Some("v1") => {}
            Some(_) => self.flaw("schema_version", "unknown; this version reads \"v1\""),
            None => self.flaw(
                "schema_version",
                "missing; begin with schema_version = \"v1\"",
            ),
        }
        if source
            .app
            .description
            .as_ref()
            .is_some_and(|text| text.chars().count() > 256)
        {
            self.flaw("app.description", "longer than 256 characters");
        }
        let instead = "keep data in a service outside for now";
        self.deferred("volumes", source.volumes.is_some(), instead);
        let instead = "pass settings that are not secret in [env.vars]";
        self.deferred("secrets", source.secrets.is_some(), instead);
        let instead = "run it at the start of `command`";
        self.deferred("env.prestart", source.env.prestart.is_some(), instead);
        self.deferred(
            "env.prestart_timeout_seconds",
            source.env.prestart_timeout_seconds.is_some(),
            instead,
        );
        self.vars("env.vars", &source.env.vars);
        match source.image.pull_policy.as_deref() {
            None | Some("if_not_present" | "always") => {}
            Some(_) => self.flaw("image.pull_policy", "use \"if_not_present\" or \"always\""),
        }
        if source.processes.is_empty() {
            self.flaw("processes", "at least one [processes.NAME] is needed");
        }
        let name = source
            .app
            .name
            .as_deref()
            .and_then(|name| self.name("app.name", name));
        let build = self.build(source.build);
        let mut processes = BTreeMap::new();
        for (name, process) in source.processes {
            let field = format!("processes.{name}");
            let checked = self.process(&field, process, &source.env);
            if let Some(name) = self.name(&field, &name) {
                processes.insert(name, checked);
            }
        }
        let endpoints = self.endpoints(source.endpoints, &processes);
        Manifest {
            name,
            image: source.image.reference,
            build,
            processes,
            endpoints,
        }
    }

    fn name(&mut self, field: &str, text: &str) -> Option<Name> {
        text.parse()
            .map_err(|error: crate::name::NameError| self.flaw(field, error.to_string()))
            .ok()
    }

    fn vars(&mut self, field: &str, vars: &BTreeMap<String, String>) {
        for key in vars.keys() {
            let mut bytes = key.bytes();
            let starts = bytes
                .next()
                .is_some_and(|b| b.is_ascii_uppercase() || b == b'_');
            let goes_on = bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if !(starts && goes_on) {
                self.flaw(
                    &format!("{field}.{key}"),
                    "variable names use A-Z, 0-9 and _",
                );
            }
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
        Build {
            pack,
            root: source.root,
            binary: source.binary,
            dockerfile: source.dockerfile,
        }
    }

    fn process(&mut self, field: &str, source: source::Process, env: &source::Env) -> Process {
        self.vars(&format!("{field}.vars"), &source.vars);
        let instead = "keep data in a service outside for now";
        self.deferred(&format!("{field}.mounts"), source.mounts.is_some(), instead);
        let instead = "run it at the start of `command`";
        self.deferred(
            &format!("{field}.prestart"),
            source.prestart.is_some(),
            instead,
        );
        let timeout = source.prestart_timeout_seconds.is_some();
        self.deferred(
            &format!("{field}.prestart_timeout_seconds"),
            timeout,
            instead,
        );
        let stop_grace_seconds = source
            .stop_grace_seconds
            .unwrap_or(STOP_GRACE_DEFAULT_SECONDS);
        if stop_grace_seconds > STOP_GRACE_MAX_SECONDS {
            self.flaw(
                &format!("{field}.stop_grace_seconds"),
                "at most 86400 (one day)",
            );
        }
        let command = source.command.or_else(|| env.command.clone());
        if command.as_ref().is_some_and(Vec::is_empty) {
            self.flaw(
                &format!("{field}.command"),
                "empty; leave it out to use the image's",
            );
        }
        let ports = self.ports(field, source.ports);
        let health = match source.health {
            Some(health) => self.health(&format!("{field}.health"), &health, &ports),
            None => ports.first().map(default_health),
        };
        let mut vars = env.vars.clone();
        vars.extend(source.vars);
        Process {
            command,
            workdir: source.workdir.or_else(|| env.workdir.clone()),
            user: source.user.or_else(|| env.user.clone()),
            vars,
            resources: self.resources(&format!("{field}.resources"), &source.resources),
            scaling: self.scaling(&format!("{field}.scaling"), &source.scaling),
            restart: self.restart(&format!("{field}.restart"), &source.restart),
            ports,
            health,
            stop_grace_seconds,
        }
    }

    fn bytes(&mut self, field: &str, given: Option<&String>, default: u64, min: u64) -> u64 {
        let Some(text) = given else { return default };
        match parse_bytes(text) {
            Some(bytes) if bytes >= min => bytes,
            Some(_) => {
                self.flaw(field, format!("at least {}", super::format_bytes(min)));
                default
            }
            None => {
                self.flaw(
                    field,
                    format!("`{text}` is not a size; write it as 256Mi or 1Gi"),
                );
                default
            }
        }
    }

    fn resources(&mut self, field: &str, source: &source::Resources) -> Resources {
        let cpu = source.cpu.unwrap_or(1.0);
        if !(cpu > 0.0 && cpu <= CPU_MAX) {
            self.flaw(
                &format!("{field}.cpu"),
                format!("more than 0 and at most {CPU_MAX}"),
            );
        }
        let memory = format!("{field}.memory");
        let disk = format!("{field}.disk");
        Resources {
            memory_bytes: self.bytes(
                &memory,
                source.memory.as_ref(),
                MEMORY_DEFAULT_BYTES,
                MEMORY_MIN_BYTES,
            ),
            cpu,
            disk_bytes: self.bytes(
                &disk,
                source.disk.as_ref(),
                DISK_DEFAULT_BYTES,
                DISK_MIN_BYTES,
            ),
        }
    }

    fn scaling(&mut self, field: &str, source: &source::Scaling) -> Scaling {
        let min = source.min.unwrap_or(1);
        let max = source.max.unwrap_or(min);
        if min > INSTANCES_MAX || max > INSTANCES_MAX {
            self.flaw(field, format!("at most {INSTANCES_MAX} instances"));
        }
        if max < min {
            self.flaw(&format!("{field}.max"), "less than min");
        }
        Scaling { min, max }
    }

    fn restart(&mut self, field: &str, source: &source::Restart) -> Restart {
        let policy = match source.policy.as_deref() {
            None | Some("always") => RestartPolicy::Always,
            Some("on-failure") => RestartPolicy::OnFailure,
            Some("never") => RestartPolicy::Never,
            Some(_) => {
                self.flaw(
                    &format!("{field}.policy"),
                    "use \"always\", \"on-failure\" or \"never\"",
                );
                RestartPolicy::Always
            }
        };
        if source.max_retries.is_some() && policy != RestartPolicy::OnFailure {
            self.flaw(
                &format!("{field}.max_retries"),
                "only with policy = \"on-failure\"",
            );
        }
        Restart {
            policy,
            max_retries: source.max_retries.unwrap_or(3),
            backoff_seconds: source.backoff_seconds.unwrap_or(2),
        }
    }

    fn ports(&mut self, field: &str, sources: Vec<source::Port>) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let field = format!("{field}.ports[{index}]");
            if source.internal == 0 {
                self.flaw(&format!("{field}.internal"), "from 1 to 65535");
            }
            if source
                .protocol
                .as_deref()
                .is_some_and(|protocol| protocol != "tcp")
            {
                self.flaw(&format!("{field}.protocol"), "only \"tcp\" so far");
            }
            let name = source
                .name
                .unwrap_or_else(|| format!("p{}", source.internal));
            let Some(name) = self.name(&format!("{field}.name"), &name) else {
                continue;
            };
            if ports
                .iter()
                .any(|port| port.name == name || port.internal == source.internal)
            {
                self.flaw(&field, "another port has this name or number");
            }
            ports.push(Port {
                name,
                internal: source.internal,
            });
        }
        ports
    }

    fn health(&mut self, field: &str, source: &source::Health, ports: &[Port]) -> Option<Health> {
        let path = source.path.clone();
        let check = match (source.kind.as_deref(), path) {
            (None | Some("tcp"), None) => Check::Tcp,
            (None | Some("tcp"), Some(_)) => {
                self.flaw(&format!("{field}.path"), "only with type = \"http\"");
                Check::Tcp
            }
            (Some("http"), Some(path)) if path.starts_with('/') => Check::Http { path },
            (Some("http"), _) => {
                self.flaw(field, "type = \"http\" needs a path that begins with /");
                Check::Tcp
            }
            (Some(_), _) => {
                self.flaw(&format!("{field}.type"), "use \"tcp\" or \"http\"");
                Check::Tcp
            }
        };
        let port = match source.port.as_deref() {
            Some(wanted) => ports.iter().find(|port| port.name.as_str() == wanted),
            None => ports.first(),
        };
        let Some(port) = port else {
            self.flaw(&format!("{field}.port"), "names no port of this process");
            return None;
        };
        let interval_seconds = source.interval_seconds.unwrap_or(10);
        let timeout_seconds = source.timeout_seconds.unwrap_or(2);
        if interval_seconds == 0 || timeout_seconds == 0 {
            self.flaw(field, "interval_seconds and timeout_seconds are at least 1");
        }
        let success_threshold = source.success_threshold.unwrap_or(1);
        let failure_threshold = source.failure_threshold.unwrap_or(3);
        if success_threshold == 0 || failure_threshold == 0 {
            self.flaw(
                field,
                "success_threshold and failure_threshold are at least 1",
            );
        }
        Some(Health {
            check,
            port: port.name.clone(),
            interval_seconds,
            timeout_seconds,
            grace_seconds: source.grace_seconds.unwrap_or(10),
            success_threshold,
            failure_threshold,
        })
    }

    fn endpoints(
        &mut self,
        sources: Vec<source::Endpoint>,
        processes: &BTreeMap<Name, Process>,
    ) -> Vec<Endpoint> {
        if sources.is_empty() {
            return default_endpoints(processes);
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let field = format!("endpoints[{index}]");
            let Some(endpoint) = self.endpoint(&field, source, processes) else {
                continue;
            };
            let clash = endpoints.iter().any(|other| {
                other.name == endpoint.name
                    || (other.exposure == endpoint.exposure
                        && other.exposure != Exposure::Http { host: None })
            });
            if clash {
                self.flaw(&field, "another endpoint has this name, host or port");
            }
            endpoints.push(endpoint);
        }
        endpoints
    }

    fn endpoint(
        &mut self,
        field: &str,
        source: source::Endpoint,
        processes: &BTreeMap<Name, Process>,
    ) -> Option<Endpoint> {
        let wanted = source.process.as_deref().unwrap_or("web");
        let Some((process, spec)) = processes.iter().find(|(name, _)| name.as_str() == wanted)
        else {
            self.flaw(
                &format!("{field}.process"),
                format!("there is no process `{wanted}`"),
            );
            return None;
        };
        let port = match source.port.as_deref() {
            Some(wanted) => spec.ports.iter().find(|port| port.name.as_str() == wanted),
            None => spec.ports.first(),
        };
        let Some(port) = port else {
            self.flaw(
                &format!("{field}.port"),
                format!("names no port of `{process}`"),
            );
            return None;
        };
        let exposure = self.exposure(field, &source)?;
        let name = source.name.unwrap_or_else(|| match &exposure {
            Exposure::Http { .. } => "http".to_owned(),
            Exposure::Tcp { listen_port } => format!("tcp-{listen_port}"),
        });
        let name = self.name(&format!("{field}.name"), &name)?;
        Some(Endpoint {
            name,
            process: process.clone(),
            port: port.name.clone(),
            exposure,
        })
    }

    fn exposure(&mut self, field: &str, source: &source::Endpoint) -> Option<Exposure> {
        match source.protocol.as_deref() {
            Some("http") => {
                if source.listen_port.is_some() {
                    self.flaw(
                        &format!("{field}.listen_port"),
                        "not with protocol = \"http\": all share one listener",
                    );
                }
                let host = source.host.as_ref().map(|host| host.to_ascii_lowercase());
                if host.as_deref().is_some_and(|host| !is_host(host)) {
                    self.flaw(&format!("{field}.host"), "not a host name");
                }
                Some(Exposure::Http { host })
            }
            None | Some("tcp") => {
                if source.host.is_some() {
                    self.flaw(&format!("{field}.host"), "only with protocol = \"http\"");
                }
                match source.listen_port {
                    Some(port) if port > 0 => Some(Exposure::Tcp { listen_port: port }),
                    _ => {
                        self.flaw(
                            &format!("{field}.listen_port"),
                            "needed with protocol = \"tcp\", from 1 to 65535",
                        );
                        None
                    }
                }
            }
            Some("udp" | "tls") => {
                let field = format!("{field}.protocol");
                self.deferred(
                    &field,
                    true,
                    "use \"tcp\", which passes TLS through untouched",
                );
                None
            }
            Some(_) => {
                self.flaw(&format!("{field}.protocol"), "use \"tcp\" or \"http\"");
                None
            }
        }
    }
}

/// Exact ASCII host names only: no wildcards, no trailing dot, labels of 1 to 63
/// (RFC 1123 §2.1), 253 in all.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests;
