//! What people ask to be deployed: manifests and images, good and bad.
//!
//! Names and hosts come from small pools on purpose, so that tenants get in
//! each other's way.

use std::collections::BTreeMap;

use helix_model::manifest::{
    Build, Endpoint, Exposure, Handling, Manifest, Mount, Network, Port, Process, ReleaseCommand,
    Resources, Restart, RestartPolicy, Scaling, Secrets, Transport, Volume,
};
use helix_model::release::Image;
use helix_model::{Command, Name, deploy};

use super::body::Behaviour;
use crate::random::Random;

/// Few enough that envs want the same, many enough that some are free.
const HOSTS: [&str; 8] = [
    "a.localhost",
    "b.localhost",
    "c.localhost",
    "d.localhost",
    "e.localhost",
    "f.localhost",
    "g.localhost",
    "h.localhost",
];

/// A release command that does not end well.
pub(crate) const FAILING_COMMAND: &str = "fail";

const MEBI: u64 = 1 << 20;

pub(crate) fn pick_name(random: &mut Random, from: &[&str]) -> Option<Name> {
    random.pick(from)?.parse().ok()
}

pub(crate) fn deploy(random: &mut Random, org: Name, project: Name) -> Option<deploy::Request> {
    let behaviour = if random.percent(30) {
        random.pick(&Behaviour::BAD).unwrap_or(Behaviour::Good)
    } else {
        Behaviour::Good
    };
    let digest = format!("sha256:{:016x}", random.next());
    Some(deploy::Request {
        org,
        project,
        app: pick_name(random, &["shop", "blog"])?,
        env: pick_name(random, &["production", "production", "staging"])?,
        by_digest: true,
        image: Image { repository: behaviour.repository().to_owned(), tag: None, digest },
        manifest: manifest(random)?,
        source: String::new(),
    })
}

fn manifest(random: &mut Random) -> Option<Manifest> {
    let web: Name = "web".parse().ok()?;
    let mut processes = BTreeMap::from([(web.clone(), process(random)?)]);
    let mut volumes = BTreeMap::new();
    if random.percent(20) {
        let data: Name = "data".parse().ok()?;
        let mount = Mount { volume: data.clone(), path: "/data".to_owned(), read_only: false };
        volumes.insert(data, Volume { size_bytes: 1 << 30 });
        let stateful = processes.get_mut(&web)?;
        stateful.mounts.push(mount);
        stateful.scaling = Scaling { min: 1, max: 1 };
    }
    if random.percent(25) {
        processes.insert("worker".parse().ok()?, process(random)?);
    }
    let port: Name = "http".parse().ok()?;
    let mut endpoints = Vec::new();
    let ipv4 = random.percent(10);
    let mut add = |name: &str, exposure: Exposure| {
        let (process, port) = (web.clone(), port.clone());
        let ipv4 = ipv4 && exposure.listen_port().is_some();
        name.parse().ok().map(|name| {
            let handling = Handling::default();
            endpoints.push(Endpoint { name, process, port, exposure, ipv4, handling });
        })
    };
    let first = if random.percent(70) { "web" } else { "site" };
    let host = random.percent(60).then(|| random.pick(&HOSTS)).flatten();
    add(first, Exposure::Http { host: host.map(str::to_owned) })?;
    if random.percent(40) {
        let name = if random.percent(60) { "raw" } else { "stream" };
        let own_port = if name == "raw" { 80 } else { 90 };
        let moves = random.percent(30);
        let listen_port = if moves { 170 - own_port } else { own_port };
        let exposure = match host {
            Some(host) if random.percent(20) => {
                Exposure::Tls { host: host.to_owned(), listen_port: Some(listen_port) }
            }
            _ if random.percent(20) => Exposure::Udp { listen_port },
            _ => Exposure::Tcp { listen_port },
        };
        add(name, exposure)?;
    }
    let (build, secrets, network) = (Build::default(), Secrets::default(), Network::default());
    let release_command = if random.percent(15) { Some(release_command(random)?) } else { None };
    let (name, image) = (None, None);
    Some(Manifest {
        name,
        image,
        build,
        processes,
        endpoints,
        secrets,
        network,
        release_command,
        volumes,
    })
}

fn release_command(random: &mut Random) -> Option<Box<ReleaseCommand>> {
    let mut process = process(random)?;
    process.restart.policy = RestartPolicy::Never;
    process.ports.clear();
    let command = if random.percent(25) { FAILING_COMMAND } else { "migrate" };
    process.command = Some(vec![command.to_owned()]);
    Some(Box::new(ReleaseCommand { process, timeout_seconds: random.between(1, 30) }))
}

fn process(random: &mut Random) -> Option<Process> {
    let policies = [RestartPolicy::Always, RestartPolicy::Always, RestartPolicy::OnFailure];
    Some(Process {
        command: None,
        workdir: None,
        user: None,
        vars: BTreeMap::new(),
        resources: Resources {
            memory_bytes: random.pick(&[64, 128, 256, 512])? * MEBI,
            cpu: 1.0,
            disk_bytes: 0,
        },
        scaling: Scaling { min: u32::try_from(random.between(1, 3)).ok()?, max: 3 },
        restart: Restart {
            policy: random.pick(&policies)?,
            max_retries: u32::try_from(random.between(0, 4)).ok()?,
            backoff_seconds: random.between(0, 2),
        },
        ports: vec![Port { name: "http".parse().ok()?, internal: 8080, transport: Transport::Tcp }],
        health: None,
        stop_grace_seconds: random.between(1, 20),
        mounts: Vec::new(),
        prestart: Vec::new(),
    })
}

/// A wish in a few words, for the trace.
pub(crate) fn describe(command: &Command) -> String {
    match command {
        Command::Deploy(it) => {
            let count = |process: &Process| process.scaling.min;
            let counts: Vec<_> =
                it.manifest.processes.iter().map(|(name, it)| (name.as_str(), count(it))).collect();
            let endpoints: Vec<_> = it.manifest.endpoints.iter().map(|it| &it.exposure).collect();
            let image = &it.image.repository;
            format!(
                "deploy {image} to {}/{}/{}/{} {counts:?} {endpoints:?}",
                it.org, it.project, it.app, it.env
            )
        }
        Command::Scale(it) => format!("scale {} to {:?}", it.env, it.processes),
        Command::Promote(it) => format!("promote {} to {}", it.release, it.env),
        Command::Rollback(it) => format!("roll {} back to {:?}", it.env, it.to),
        other => other.operation().to_owned(),
    }
}
