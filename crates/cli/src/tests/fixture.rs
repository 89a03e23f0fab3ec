//! A history everybody can follow: `hello` was deployed twice, the second time
//! with a release that crashed, so v1 serves while v2 is desired.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use helix_model::event::InstallationCreated;
use helix_model::manifest;
use helix_model::release::Image;
use helix_model::{
    Actor, App, Deploy, Edge, Endpoint, Env, Event, Id, Instance, Name, Node, Noun, Org, Project,
    Reason, Release, State, Timestamp, Tunnel, app, deploy, edge, endpoint, env, instance, node,
    org, project, release, tunnel,
};

/// When it all began.
pub(crate) const BEGAN: &str = "2026-01-31T12:00:00Z";

/// The state after the history.
pub(crate) fn state() -> State {
    after(&history())
}

/// The state after the first deploy, before the one that failed.
pub(crate) fn settled() -> State {
    let history = history();
    let first = history.iter().position(|event| matches!(event, Event::DeployFinished(_)));
    after(&history[..=first.unwrap()])
}

fn after(history: &[Event]) -> State {
    let began = Timestamp::parse(BEGAN).unwrap();
    let mut state = State::default();
    for (number, event) in history.iter().enumerate() {
        let number = u64::try_from(number).unwrap();
        let at = Timestamp(began.0 + i64::try_from(number).unwrap() * 1000);
        state.apply(number + 1, at, event);
    }
    state
}

/// The same as [`settled`] with tunnels: one with an agent, one that is reserved, one
/// out of use.
pub(crate) fn tunnelled() -> State {
    let mut history = history();
    history.push(tunnel(1, "demo", tunnel::Exposure::Http { host: "demo.localhost".into() }));
    history.push(tunnel(2, "raw", tunnel::Exposure::Tcp { port: 20_000 }));
    history.push(tunnel(3, "bad", tunnel::Exposure::Tls { host: "bad.localhost".into() }));
    history.push(Event::TunnelStatusChanged(tunnel::StatusChanged {
        of: tunnel::Of { id: id(1), name: name("demo"), org: id(1) },
        edge: id(1),
        seen: tunnel::Seen { reachable: vec!["https://demo.localhost:8443".into()], problem: None },
        agent: Some(tunnel::Attached {
            since: Timestamp::parse(BEGAN).unwrap(),
            version: "0.1.0".into(),
            transport: tunnel::Transport::Quic,
        }),
    }));
    let changed = |number: u128, reserved: bool, disabled: Option<&str>| {
        let Event::TunnelCreated(made) = &history[history.len() - 5 + number as usize] else {
            panic!("a tunnel was made there");
        };
        let disabled = disabled.map(str::to_owned);
        Event::TunnelUpdated(tunnel::Updated {
            of: tunnel::Of { id: made.id, name: made.name.clone(), org: id(1) },
            spec: Tunnel { reserved, disabled, ..made.spec.clone() },
        })
    };
    let more = [changed(2, true, None), changed(3, false, Some("it is a phish"))];
    history.extend(more);
    after(&history)
}

fn tunnel(number: u128, label: &str, exposure: tunnel::Exposure) -> Event {
    Event::TunnelCreated(tunnel::Created {
        id: id::<Tunnel>(number),
        name: name(label),
        spec: Tunnel {
            org: id(1),
            owner: tunnel::Owner { actor: Actor::User("ann".into()), id: None },
            exposure,
            generation: 1,
            reserved: false,
            disabled: None,
            locked: false,
            kept_for_seconds: 3600,
        },
    })
}

/// The n-th id of a kind.
pub(crate) fn id<N: Noun>(number: u128) -> Id<N> {
    Id::new(Timestamp::parse(BEGAN).unwrap(), number)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn fronting() -> edge::Status {
    let facts = edge::Facts {
        version: "0.1.0".into(),
        http: vec!["[::]:8080".into()],
        https: vec!["[::]:8443".into()],
        ..edge::Facts::default()
    };
    edge::Status { connected: true, link: 1, replica: None, facts: Some(facts) }
}

fn history() -> Vec<Event> {
    let address: Ipv6Addr = "fd12::1".parse().unwrap();
    vec![
        Event::InstallationCreated(InstallationCreated { network: "fd12::".parse().unwrap() }),
        Event::OrgCreated(org::Created { id: id::<Org>(1), name: name("default") }),
        Event::ProjectCreated(project::Created {
            id: id::<Project>(1),
            org: id(1),
            name: name("default"),
        }),
        Event::NodeEnrolled(node::Enrolled { id: id::<Node>(1), name: name("local"), subnet: 1 }),
        Event::NodeStatusChanged(node::StatusChanged { id: id(1), status: connected() }),
        Event::EdgeEnrolled(edge::Enrolled { id: id::<Edge>(1), name: name("front") }),
        Event::EdgeStatusChanged(edge::StatusChanged { id: id(1), status: fronting() }),
        Event::AppCreated(app::Created {
            id: id::<App>(1),
            org: id(1),
            project: id(1),
            name: name("hello"),
        }),
        Event::EnvCreated(env::Created {
            id: id::<Env>(1),
            org: id(1),
            app: id(1),
            name: name("production"),
            address,
        }),
        released(1),
        Event::EndpointCreated(endpoint::Created {
            id: id::<Endpoint>(1),
            name: name("http"),
            spec: Endpoint {
                org: id(1),
                env: id(1),
                process: name("web"),
                port: name("http"),
                handling: manifest::Handling::default(),
                apart: false,
                ipv4: false,
                exposure: endpoint::Exposure::Http { host: "hello.localhost".into() },
                reserved: None,
            },
        }),
        deployed(1, None),
        allocated(1),
        observed(1, instance::Phase::Ready, None),
        Event::EndpointStatusChanged(endpoint::StatusChanged {
            of: endpoint::Of { id: id(1), name: name("http"), env: id(1) },
            seen: endpoint::Seen {
                reachable: vec!["http://hello.localhost:8080".into(), "[fd12::1]:80".into()],
                reach: None,
                problem: None,
            },
            edge: Some(id(1)),
        }),
        Event::DeployFinished(deploy::Finished {
            id: id(1),
            outcome: deploy::Outcome::Succeeded,
            name: Some(name("d1")),
            env: Some(id(1)),
            pauses: Default::default(),
        }),
        released(2),
        deployed(2, Some(1)),
        allocated(2),
        observed(2, instance::Phase::Failed, Some(Reason::WorkloadExited)),
        Event::DeployFinished(deploy::Finished {
            id: id(2),
            outcome: deploy::Outcome::Failed {
                reason: Reason::WorkloadExited,
                message: "web-2 ended with 3".into(),
            },
            name: Some(name("d2")),
            env: Some(id(1)),
            pauses: Default::default(),
        }),
    ]
}

fn connected() -> node::Status {
    node::Status {
        connected: true,
        link: 1,
        replica: None,
        disk: None,
        facts: Some(node::Facts {
            version: "0.1.0".into(),
            cpus: 2,
            memory_bytes: 1 << 30,
            isolation: "container".into(),
            isolation_reason: "pid, mount and network of its own".into(),
            isolation_advice: Some("install a kernel with user namespaces".into()),
            volumes: None,
        }),
    }
}

fn released(number: u128) -> Event {
    let manifest = manifest::parse_with_defaults(8080);
    Event::ReleaseCreated(release::Created {
        id: id::<Release>(number),
        name: name(&format!("v{number}")),
        spec: Release {
            org: id(1),
            app: id(1),
            number: u64::try_from(number).unwrap(),
            image: Image {
                repository: "helix.internal/default/default/hello".into(),
                tag: None,
                digest: format!("sha256:{number:064x}"),
            },
            manifest_hash: manifest.hash(),
            manifest,
            source: "hello".into(),
            configured: None,
        },
    })
}

fn deployed(number: u128, previous: Option<u128>) -> Event {
    Event::DeployCreated(deploy::Created {
        id: id::<Deploy>(number),
        name: name(&format!("d{number}")),
        spec: Deploy {
            org: id(1),
            env: id(1),
            release: id(number),
            intent: deploy::Intent::Deploy,
            previous: previous.map(id),
            secrets: None,
        },
    })
}

fn allocated(number: u128) -> Event {
    Event::InstanceAllocated(instance::Allocated {
        id: id::<Instance>(number),
        name: name(&format!("web-{number}")),
        spec: Instance {
            org: id(1),
            env: id(1),
            release: id(number),
            deploy: Some(id(number)),
            process: name("web"),
            node: id(1),
            address: "fd12:0:0:1::1".parse().unwrap(),
            memory_bytes: 256 << 20,
            secrets: None,
            mounts: Vec::new(),
            desired: instance::Desired::Running,
        },
    })
}

fn observed(number: u128, phase: instance::Phase, reason: Option<Reason>) -> Event {
    let of = instance::Of { id: id(number), name: name(&format!("web-{number}")), env: id(1) };
    Event::InstanceStatusChanged(instance::StatusChanged {
        of,
        observed: instance::Observed {
            phase,
            reason,
            message: reason.map(|_| "it ended with 3".to_owned()),
            ports: BTreeMap::new(),
            restarts: u32::from(reason.is_some()) * 4,
            exit: None,
            ended: false,
            isolation: Some("container".into()),
        },
    })
}
