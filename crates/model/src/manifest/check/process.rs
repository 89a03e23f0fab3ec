//! The rules of `[processes.NAME]`.

use std::collections::BTreeMap;

use super::Checker;
use crate::manifest::quantity::{format_bytes, parse_bytes};
use crate::manifest::source;
use crate::manifest::{
    Check, Health, Port, Prestart, Process, Resources, Restart, RestartPolicy, Scaling, Transport,
};

const MEMORY_DEFAULT_BYTES: u64 = 256 << 20;
/// Below this a container's own bookkeeping leaves nothing for the program.
pub(crate) const MEMORY_MIN_BYTES: u64 = 64 << 20;
const DISK_DEFAULT_BYTES: u64 = 4 << 30;
const DISK_MIN_BYTES: u64 = 1 << 30;
/// The most one Firecracker microVM can have; the same everywhere, so that a
/// manifest does not depend on the isolation it meets.
pub(crate) const CPU_MAX: f64 = 32.0;
const INSTANCES_MAX: u32 = 100;
const STOP_GRACE_DEFAULT_SECONDS: u64 = 10;
/// Preparing a cache or a configuration takes seconds.
const PRESTART_TIMEOUT_DEFAULT_SECONDS: u64 = 30;
/// What takes longer is for a release command, which does not hold up every start.
const PRESTART_TIMEOUT_MAX_SECONDS: u64 = 3600;
/// Long-lived connections are a stated use; a day is beyond any drain.
const STOP_GRACE_MAX_SECONDS: u64 = 24 * 3600;

/// A process that says nothing but its port.
pub(super) fn with_defaults(port: Port) -> Process {
    Process {
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
        restart: Restart { policy: RestartPolicy::Always, max_retries: 3, backoff_seconds: 2 },
        health: Some(default_health(&port)),
        ports: vec![port],
        stop_grace_seconds: STOP_GRACE_DEFAULT_SECONDS,
        mounts: Vec::new(),
        prestart: Vec::new(),
    }
}

/// The port that is asked unless told otherwise: a connection says more than a datagram.
fn first(ports: &[Port]) -> Option<&Port> {
    ports.iter().find(|port| port.transport.is_tcp()).or_else(|| ports.first())
}

fn default_health(port: &Port) -> Health {
    Health {
        check: match port.transport {
            Transport::Tcp => Check::Tcp,
            Transport::Udp => Check::Udp,
        },
        port: Some(port.name.clone()),
        interval_seconds: 10,
        timeout_seconds: 2,
        grace_seconds: 10,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

impl Checker<'_> {
    pub(super) fn process(
        &mut self,
        field: &str,
        source: source::Process,
        env: &source::Env,
    ) -> Process {
        self.vars(&format!("{field}.vars"), &source.vars);
        let own = self.prestart(field, source.prestart, source.prestart_timeout_seconds);
        let stop_grace_seconds = source.stop_grace_seconds.unwrap_or(STOP_GRACE_DEFAULT_SECONDS);
        if stop_grace_seconds > STOP_GRACE_MAX_SECONDS {
            self.flaw(&format!("{field}.stop_grace_seconds"), "at most 86400 (one day)");
        }
        let command = source.command.or_else(|| env.command.clone());
        if command.as_ref().is_some_and(Vec::is_empty) {
            self.flaw(&format!("{field}.command"), "empty; leave it out to use the image's");
        }
        let ports = self.ports(field, source.ports);
        let health = match source.health {
            Some(health) => self.health(&format!("{field}.health"), &health, &ports),
            None => first(&ports).map(default_health),
        };
        let scaling = self.scaling(&format!("{field}.scaling"), &source.scaling);
        let mounts = self.mounts(field, source.mounts, &scaling);
        let mut vars = env.vars.clone();
        vars.extend(source.vars);
        Process {
            command,
            workdir: source.workdir.or_else(|| env.workdir.clone()),
            user: source.user.or_else(|| env.user.clone()),
            vars,
            resources: self.resources(&format!("{field}.resources"), &source.resources),
            scaling,
            restart: self.restart(&format!("{field}.restart"), &source.restart),
            ports,
            health,
            stop_grace_seconds,
            mounts,
            prestart: own.into_iter().collect(),
        }
    }

    /// `prestart` and its timeout, in `[env]` or a process.
    pub(super) fn prestart(
        &mut self,
        field: &str,
        command: Option<Vec<String>>,
        timeout: Option<u64>,
    ) -> Option<Prestart> {
        let timeout_seconds = timeout.unwrap_or(PRESTART_TIMEOUT_DEFAULT_SECONDS);
        if !(1..=PRESTART_TIMEOUT_MAX_SECONDS).contains(&timeout_seconds) {
            self.flaw(&format!("{field}.prestart_timeout_seconds"), "from 1 to 3600");
        }
        let Some(command) = command else {
            if timeout.is_some() {
                self.flaw(&format!("{field}.prestart_timeout_seconds"), "only with prestart");
            }
            return None;
        };
        if command.first().is_none_or(String::is_empty) {
            self.flaw(&format!("{field}.prestart"), "empty; leave it out if there is none");
        }
        Some(Prestart { command, timeout_seconds })
    }

    fn bytes(&mut self, field: &str, given: Option<&String>, default: u64, min: u64) -> u64 {
        let Some(text) = given else { return default };
        match parse_bytes(text) {
            Some(bytes) if bytes >= min => bytes,
            Some(_) => {
                self.flaw(field, format!("at least {}", format_bytes(min)));
                default
            }
            None => {
                self.flaw(field, format!("`{text}` is not a size; write it as 256Mi or 1Gi"));
                default
            }
        }
    }

    fn resources(&mut self, field: &str, source: &source::Resources) -> Resources {
        let cpu = source.cpu.unwrap_or(1.0);
        if !(cpu > 0.0 && cpu <= CPU_MAX) {
            self.flaw(&format!("{field}.cpu"), format!("more than 0 and at most {CPU_MAX}"));
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
            disk_bytes: self.bytes(&disk, source.disk.as_ref(), DISK_DEFAULT_BYTES, DISK_MIN_BYTES),
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
            self.flaw(&format!("{field}.max_retries"), "only with policy = \"on-failure\"");
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
            let transport = match source.protocol.as_deref() {
                None | Some("tcp") => Transport::Tcp,
                Some("udp") => Transport::Udp,
                Some(_) => {
                    self.flaw(&format!("{field}.protocol"), "use \"tcp\" or \"udp\"");
                    Transport::Tcp
                }
            };
            let name = source.name.unwrap_or_else(|| format!("p{}", source.internal));
            let Some(name) = self.name(&format!("{field}.name"), &name) else {
                continue;
            };
            let is_number =
                |port: &Port| port.internal == source.internal && port.transport == transport;
            if ports.iter().any(|port| port.name == name || is_number(port)) {
                self.flaw(&field, "another port has this name or number");
            }
            ports.push(Port { name, internal: source.internal, transport });
        }
        ports
    }

    fn health_check(&mut self, field: &str, source: &source::Health) -> Check {
        let kind = source.kind.as_deref().unwrap_or("tcp");
        if source.path.is_some() && kind != "http" {
            self.flaw(&format!("{field}.path"), "only with type = \"http\"");
        }
        if source.command.is_some() && kind != "exec" {
            self.flaw(&format!("{field}.command"), "only with type = \"exec\"");
        }
        match kind {
            "tcp" => {}
            "udp" => return Check::Udp,
            "http" => match source.path.clone().filter(|path| path.starts_with('/')) {
                Some(path) => return Check::Http { path },
                None => self.flaw(field, "type = \"http\" needs a path that begins with /"),
            },
            "exec" => match source.command.clone().filter(|command| !command.is_empty()) {
                Some(command) => return Check::Exec { command },
                None => self.flaw(
                    field,
                    "type = \"exec\" needs a command, such as [\"/bin/check\", \"--quick\"]",
                ),
            },
            _ => self.flaw(&format!("{field}.type"), "use \"tcp\", \"http\", \"udp\" or \"exec\""),
        }
        Check::Tcp
    }

    fn health(&mut self, field: &str, source: &source::Health, ports: &[Port]) -> Option<Health> {
        let check = self.health_check(field, source);
        let transport = match check {
            Check::Udp => Some(Transport::Udp),
            Check::Tcp | Check::Http { .. } => Some(Transport::Tcp),
            Check::Exec { .. } => None,
        };
        let fits = |port: &&Port| transport.is_none_or(|it| it == port.transport);
        let mut fitting = ports.iter().filter(fits);
        let port = match source.port.as_deref() {
            Some(wanted) => fitting.find(|port| port.name.as_str() == wanted),
            None => fitting.next(),
        };
        let needs_port = source.kind.as_deref() != Some("exec") || source.port.is_some();
        if port.is_none() && needs_port {
            let message = match check {
                Check::Udp => "names no UDP port of this process",
                Check::Tcp | Check::Http { .. } => "names no TCP port of this process",
                Check::Exec { .. } => "names no port of this process",
            };
            self.flaw(&format!("{field}.port"), message);
            return None;
        }
        let interval_seconds = source.interval_seconds.unwrap_or(10);
        let timeout_seconds = source.timeout_seconds.unwrap_or(2);
        if interval_seconds == 0 || timeout_seconds == 0 {
            self.flaw(field, "interval_seconds and timeout_seconds are at least 1");
        }
        let success_threshold = source.success_threshold.unwrap_or(1);
        let failure_threshold = source.failure_threshold.unwrap_or(3);
        if success_threshold == 0 || failure_threshold == 0 {
            self.flaw(field, "success_threshold and failure_threshold are at least 1");
        }
        Some(Health {
            check,
            port: port.map(|port| port.name.clone()),
            interval_seconds,
            timeout_seconds,
            grace_seconds: source.grace_seconds.unwrap_or(10),
            success_threshold,
            failure_threshold,
        })
    }
}
