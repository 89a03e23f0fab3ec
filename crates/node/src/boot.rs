//! From a plan and an image to what the runtime is to start, and from that to
//! the addresses where the program can be reached. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use helix_image::ImageConfig;
use helix_model::plan::InstancePlan;
use helix_model::volume;
use helix_runtime::{
    Forward, InstanceSpec, Isolation, LogLimits, Mount, NetworkSpec, Peer, PrestartSpec, Resources,
    SECRETS_PATH, SECRETS_VARIABLE, SPEC_VERSION, VethSpec,
};
use nix::sys::signal::Signal;

use crate::address::{gateway_ipv4, instance_ipv4, link_name};
use crate::images::Image;
use crate::lifecycle::Ports;
use crate::probe::Targets;

/// The variable that tells a program its first port.
const PORT: &str = "PORT";

/// What differs from boot to boot and machine to machine.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    pub(crate) boot_id: String,
    pub(crate) isolation: Isolation,
    /// The installation's block.
    pub(crate) network: Ipv6Addr,
    /// The instance's number among private IPv4 addresses, with a network of
    /// its own.
    pub(crate) ipv4_slot: Option<u16>,
    /// A free loopback port for each declared port, without one.
    pub(crate) loopback_ports: Vec<u16>,
    /// The file with its secrets, in this machine's memory.
    pub(crate) secrets: Option<PathBuf>,
    /// The machine's name servers.
    pub(crate) resolvers: Vec<Ipv4Addr>,
}

/// What the runtime is to start.
pub(crate) fn instance_spec(
    plan: &InstancePlan,
    image: &Image,
    here: &Circumstances,
) -> InstanceSpec {
    InstanceSpec {
        version: SPEC_VERSION,
        instance_id: plan.id.to_string(),
        boot_id: here.boot_id.clone(),
        hostname: plan.name.to_string(),
        isolation: here.isolation,
        rootfs: image.root.clone(),
        argv: plan.command.clone().unwrap_or_else(|| image.config.argv()),
        env: environment(plan, &image.config, here),
        workdir: plan.workdir.clone().unwrap_or_else(|| image.config.working_dir.clone()),
        user: plan.user.clone().unwrap_or_else(|| image.config.user.clone()),
        resources: Resources {
            memory_bytes: Some(plan.resources.memory_bytes),
            cpu: Some(plan.resources.cpu),
            pids: None,
            disk_bytes: Some(plan.resources.disk_bytes),
        },
        // Where they are is known once they are mounted.
        mounts: Vec::new(),
        network: network(plan, here),
        secrets: here.secrets.clone(),
        logs: LogLimits::default(),
        prestart: plan.prestart.iter().map(prestart).collect(),
        stop_grace_ms: plan.stop_grace_ms,
        stop_signal: stop_signal(&image.config.stop_signal),
    }
}

/// The number of a signal by the forms images have it in: `SIGQUIT`, `QUIT` or `3`. What
/// is none of those, a signal for systems whose first process is no program of theirs for
/// one, is TERM.
fn stop_signal(declared: &str) -> i32 {
    let name = declared.trim().to_ascii_uppercase();
    let named = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    let signal = match name.parse::<i32>() {
        Ok(number) => Signal::try_from(number),
        Err(_) => named.parse(),
    };
    signal.unwrap_or(Signal::SIGTERM) as i32
}

fn prestart(planned: &helix_model::manifest::Prestart) -> PrestartSpec {
    let timeout_ms = planned.timeout_seconds.saturating_mul(1000);
    PrestartSpec { argv: planned.command.clone(), timeout_ms }
}

/// Where the program of a spec can be reached.
pub(crate) fn targets(plan: &InstancePlan, spec: &InstanceSpec) -> Targets {
    let route = |address: IpAddr| -> Ports {
        let at = |internal| SocketAddr::new(address, internal);
        plan.ports.iter().map(|port| (port.name.clone(), at(port.internal))).collect()
    };
    let internal = plan.ports.iter().map(|port| (port.name.clone(), port.internal)).collect();
    match &spec.network {
        NetworkSpec::Veth(veth) => {
            let ipv4 = veth.ipv4.map(|ipv4| route(ipv4.into()));
            let routes = std::iter::once(route(veth.ipv6.into())).chain(ipv4).collect();
            Targets { routes, internal, forwarded: false }
        }
        NetworkSpec::Loopback { forwards } => {
            let host = |internal| forwards.iter().find(|to| to.instance_port == internal);
            let forwarded = |port: &helix_model::plan::PortPlan| {
                Some((port.name.clone(), host(port.internal)?.host))
            };
            // The forwarder carries connections only.
            let ports = plan.ports.iter().filter(|port| port.transport.is_tcp());
            let routes = vec![ports.filter_map(forwarded).collect()];
            Targets { routes, internal, forwarded: true }
        }
        NetworkSpec::Host {} => host_targets(plan, spec),
    }
}

/// On the host's own network only the first port can be chosen for the
/// program; further ones are where the program puts them.
fn host_targets(plan: &InstancePlan, spec: &InstanceSpec) -> Targets {
    let chosen: Option<u16> = spec.env.get(PORT).and_then(|port| port.parse().ok());
    let mut internal: BTreeMap<_, _> =
        plan.ports.iter().map(|port| (port.name.clone(), port.internal)).collect();
    if let (Some(first), Some(chosen)) = (plan.ports.first(), chosen) {
        internal.insert(first.name.clone(), chosen);
    }
    let route = |address: IpAddr| -> Ports {
        internal.iter().map(|(name, port)| (name.clone(), (address, *port).into())).collect()
    };
    let routes = vec![route(Ipv6Addr::LOCALHOST.into()), route(Ipv4Addr::LOCALHOST.into())];
    Targets { routes, internal, forwarded: false }
}

/// The image's variables, then the plan's, then ours, which nothing overrides
/// but a `PORT` the plan sets where the program has a network of its own.
fn environment(
    plan: &InstancePlan,
    image: &ImageConfig,
    here: &Circumstances,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = image
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Some(port) = plan.ports.first() {
        env.insert(PORT.to_owned(), port.internal.to_string());
    }
    env.extend(plan.vars.clone());
    if here.isolation == Isolation::Process
        && let Some(port) = here.loopback_ports.first()
    {
        env.insert(PORT.to_owned(), port.to_string());
    }
    env.extend([
        ("HELIX_INSTANCE_ID".to_owned(), plan.id.to_string()),
        ("HELIX_INSTANCE_NAME".to_owned(), plan.name.to_string()),
        ("HELIX_RELEASE_ID".to_owned(), plan.release.to_string()),
        ("HELIX_ENV_ID".to_owned(), plan.env.to_string()),
        ("HELIX_PROCESS".to_owned(), plan.process.to_string()),
    ]);
    if let Some(file) = &here.secrets {
        let file = match here.isolation {
            // It has no root of its own to put a file in.
            Isolation::Process => file.display().to_string(),
            Isolation::Container | Isolation::ContainerRootless => SECRETS_PATH.to_owned(),
        };
        env.insert(SECRETS_VARIABLE.to_owned(), file);
    }
    env
}

fn network(plan: &InstancePlan, here: &Circumstances) -> NetworkSpec {
    match here.isolation {
        Isolation::Container => NetworkSpec::Veth(VethSpec {
            host_ifname: link_name(plan.id),
            ipv6: plan.address,
            ipv4: here.ipv4_slot.map(|slot| instance_ipv4(here.network, slot)),
            gateway_ipv4: gateway_ipv4(here.network),
            mtu: 1500,
            dns: here.resolvers.iter().copied().map(IpAddr::V4).collect(),
            forwarding: false,
            peers: Vec::new(),
        }),
        Isolation::ContainerRootless => {
            let forward = |(port, host): (&helix_model::plan::PortPlan, &u16)| Forward {
                host: SocketAddr::from((Ipv4Addr::LOCALHOST, *host)),
                instance_port: port.internal,
            };
            let ports = plan.ports.iter().zip(&here.loopback_ports);
            let connected = ports.filter(|(port, _)| port.transport.is_tcp());
            let forwards = connected.map(forward).collect();
            NetworkSpec::Loopback { forwards }
        }
        Isolation::Process => NetworkSpec::Host {},
    }
}

/// Lets the instance's IPv4 packets out of its link, once the rules that keep
/// them in bounds are in place.
pub(crate) fn let_out(spec: &mut InstanceSpec) {
    if let NetworkSpec::Veth(veth) = &mut spec.network {
        veth.forwarding = true;
    }
}

/// Tells the instance whom it can reach.
pub(crate) fn add_peers(spec: &mut InstanceSpec, peers: Vec<Peer>) {
    if let NetworkSpec::Veth(veth) = &mut spec.network {
        veth.peers = peers;
    }
}

/// Gives the instance a volume that is at `source`.
pub(crate) fn add_volume(spec: &mut InstanceSpec, source: PathBuf, mount: volume::Mount) {
    let volume::Mount { path: target, read_only, .. } = mount;
    spec.mounts.push(Mount { source, target, read_only });
}

/// The name servers of a `resolv.conf` that instances can reach: from another
/// network namespace not those on loopback, and without a way out for IPv6 not
/// those.
pub(crate) fn resolvers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .filter(|address: &Ipv4Addr| !address.is_loopback())
        .collect()
}

#[cfg(test)]
mod tests {
    use helix_model::manifest::{Restart, RestartPolicy, Transport};
    use helix_model::plan::{PortPlan, Running};
    use helix_model::{Id, Timestamp};

    use super::*;

    fn plan() -> InstancePlan {
        let port = |name: &str, internal| PortPlan {
            name: name.parse().unwrap(),
            internal,
            transport: Transport::Tcp,
        };
        InstancePlan {
            id: Id::new(Timestamp(1), 1),
            name: "web-1".parse().unwrap(),
            org: Id::new(Timestamp(1), 2),
            env: Id::new(Timestamp(1), 3),
            release: Id::new(Timestamp(1), 4),
            process: "web".parse().unwrap(),
            desired: Running::Running,
            image: String::new(),
            command: None,
            workdir: None,
            user: Some("app".to_owned()),
            vars: BTreeMap::from([("A".to_owned(), "plan".to_owned())]),
            resources: helix_model::manifest::Resources {
                memory_bytes: 64 << 20,
                cpu: 0.5,
                disk_bytes: 1 << 30,
            },
            ports: vec![port("http", 80), port("admin", 81)],
            health: None,
            restart: Restart { policy: RestartPolicy::Always, max_retries: 0, backoff_seconds: 1 },
            address: "fd00:0:0:1::5".parse().unwrap(),
            intra_env: false,
            secrets: None,
            mounts: Vec::new(),
            prestart: Vec::new(),
            stop_grace_ms: 1_000,
        }
    }

    fn image() -> Image {
        let config = ImageConfig {
            env: vec!["A=image".to_owned(), "B=image".to_owned()],
            entrypoint: vec!["/app".to_owned()],
            cmd: vec!["serve".to_owned()],
            user: "nobody".to_owned(),
            working_dir: "/srv".to_owned(),
            stop_signal: "SIGQUIT".to_owned(),
            ..ImageConfig::default()
        };
        Image { root: "/images/x/root".into(), config, _pins: None }
    }

    fn here(isolation: Isolation) -> Circumstances {
        Circumstances {
            boot_id: "b1".to_owned(),
            isolation,
            network: "fd00::".parse().unwrap(),
            ipv4_slot: Some(7),
            loopback_ports: vec![40_001, 40_002],
            secrets: None,
            resolvers: Vec::new(),
        }
    }

    fn addresses(isolation: Isolation) -> Vec<Vec<String>> {
        let plan = plan();
        let spec = instance_spec(&plan, &image(), &here(isolation));
        spec.check().unwrap();
        let routes = targets(&plan, &spec).routes;
        routes.iter().map(|ports| ports.values().map(SocketAddr::to_string).collect()).collect()
    }

    #[test]
    fn the_image_says_how_its_program_is_asked_to_end() {
        let numbers = ["SIGQUIT", "quit", "3", "", "SIGRTMIN+3", "99"].map(stop_signal);
        assert_eq!(numbers, [3, 3, 3, 15, 15, 15]);
    }

    #[test]
    fn the_plan_wins_over_the_image() {
        let spec = instance_spec(&plan(), &image(), &here(Isolation::Container));
        assert_eq!(spec.argv, ["/app", "serve"]);
        assert_eq!((spec.user.as_str(), spec.workdir.as_str()), ("app", "/srv"));
        assert_eq!((spec.env["A"].as_str(), spec.env["B"].as_str()), ("plan", "image"));
        assert_eq!(spec.stop_signal, Signal::SIGQUIT as i32);
        assert_eq!(spec.env["PORT"], "80");
        assert_eq!(spec.env["HELIX_INSTANCE_NAME"], "web-1");
        let overridden = InstancePlan { command: Some(vec!["/other".to_owned()]), ..plan() };
        let spec = instance_spec(&overridden, &image(), &here(Isolation::Container));
        assert_eq!(spec.argv, ["/other"]);
    }

    #[test]
    fn a_container_is_reached_at_its_own_addresses_ipv6_first() {
        let routes = addresses(Isolation::Container);
        assert_eq!(routes[0], ["[fd00:0:0:1::5]:81", "[fd00:0:0:1::5]:80"]);
        assert!(routes[1][1].starts_with("10.") && routes[1][1].ends_with(".7:80"));
    }

    #[test]
    fn without_privileges_loopback_ports_lead_inside() {
        let routes = addresses(Isolation::ContainerRootless);
        assert_eq!(routes, [["127.0.0.1:40002", "127.0.0.1:40001"]]);
    }

    #[test]
    fn a_plain_process_is_told_its_port() {
        let spec = instance_spec(&plan(), &image(), &here(Isolation::Process));
        assert_eq!(spec.env["PORT"], "40001");
        let routes = addresses(Isolation::Process);
        assert_eq!(routes[0], ["[::1]:81", "[::1]:40001"]);
        assert_eq!(routes[1], ["127.0.0.1:81", "127.0.0.1:40001"]);
    }

    #[test]
    fn only_resolvers_reachable_from_elsewhere_count() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver fd00::53\nnameserver 9.9.9.9\n";
        assert_eq!(resolvers(text), [Ipv4Addr::new(9, 9, 9, 9)]);
    }
}
