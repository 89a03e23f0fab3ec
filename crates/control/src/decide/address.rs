//! Deciding on addresses: which one an env gets, IPv4 as an add-on, and denied ports.

use std::net::{IpAddr, Ipv6Addr};

use helix_model::address::{Exhausted, Ipv4Changed, PREFIXES_MAX, SetIpv4};
use helix_model::{
    AnyId, Code, Env, Event, Kind, Name, Problem, Resource, State, edge, manifest, network, ports,
};

use super::{Draft, destroy};

/// Ports of an IPv4 address besides 80 and 443: it is one of few, for what IPv6 cannot do.
const FURTHER_IPV4_PORTS_MAX: usize = 5;

/// The address of a new env.
pub(super) fn of_new_env(draft: &Draft<'_, '_>) -> Result<Ipv6Addr, Problem> {
    let state = &draft.state;
    let prefixes = state.ipv6_prefixes();
    if prefixes.is_empty() {
        return Ok(network::env_address(state.network, state.envs_created + 1));
    }
    match state.addresses.free(&prefixes, draft.context.now) {
        Ok(IpAddr::V6(address)) => Ok(address),
        Ok(IpAddr::V4(_)) => Err(exhausted(Code::Ipv6PoolExhausted, "IPv6", none())),
        Err(why) => Err(exhausted(Code::Ipv6PoolExhausted, "IPv6", why)),
    }
}

/// Gives an env an IPv4 address, or takes it back when nothing listens there.
pub(super) fn set_ipv4(
    draft: &mut Draft<'_, '_>,
    command: &SetIpv4,
) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    let Some(env) = state.envs.get(command.env) else {
        return Err(Problem::not_found(Kind::Env, &command.env.to_string()));
    };
    destroy::refuse_going(state, env.id.any())?;
    let id = command.env;
    let address = match (env.spec.ipv4, command.enabled) {
        (Some(_), true) | (None, false) => return Ok(Some(id.any())),
        (Some(address), false) => {
            refuse_needed(state, env)?;
            address
        }
        (None, true) => {
            let found = state.addresses.free(&state.ipv4_prefixes(), draft.context.now);
            let found = found.map_err(|why| exhausted(Code::Ipv4PoolExhausted, "IPv4", why))?;
            let IpAddr::V4(address) = found else {
                return Err(exhausted(Code::Ipv4PoolExhausted, "IPv4", none()));
            };
            address
        }
    };
    draft.emit(Event::EnvIpv4Changed(Ipv4Changed { id, address, enabled: command.enabled }));
    Ok(Some(id.any()))
}

/// Also what the env is about to run may need it, though nothing listens yet.
fn refuse_needed(state: &State, env: &Resource<Env>) -> Result<(), Problem> {
    let present = state.endpoints.children(env.id.any()).filter(|it| it.spec.ipv4);
    let release = env.spec.release.and_then(|id| state.releases.get(id));
    let asked = release.map(|it| it.spec.manifest.endpoints.as_slice()).unwrap_or_default();
    let asked = asked.iter().filter(|it| it.ipv4).map(|it| &it.name);
    let mut needing: Vec<&Name> = present.map(|it| &it.name).chain(asked).collect();
    needing.sort_unstable();
    needing.dedup();
    if needing.is_empty() {
        return Ok(());
    }
    let names = super::env::names(needing.into_iter());
    let detail = format!("endpoints listen on the IPv4 address of `{}`: {names}", env.name);
    Err(Problem::new(Code::Ipv4InUse, detail))
}

fn none() -> Exhausted {
    Exhausted { size: 0, next: None }
}

fn exhausted(code: Code, family: &str, why: Exhausted) -> Problem {
    let detail = match why {
        Exhausted { size: 0, .. } => format!("no edge has {family} addresses to give"),
        Exhausted { size, next: None } => format!("all {size} {family} addresses are in use"),
        Exhausted { size, next: Some(at) } => format!(
            "all {size} {family} addresses are in use or were lately; the next is free at {at}"
        ),
    };
    Problem::new(code, detail)
}

/// Refuses an endpoint on IPv4 where the env has no such address, or too many of them.
pub(super) fn refuse_ipv4(
    state: &State,
    env: &Resource<Env>,
    asked: &manifest::Endpoint,
) -> Result<(), Problem> {
    if !asked.ipv4 {
        return Ok(());
    }
    if env.spec.ipv4.is_none() {
        let detail =
            format!("env `{}` has no IPv4 address for endpoint `{}`", env.name, asked.name);
        return Err(
            Problem::new(Code::Ipv4NotEnabled, detail).field("endpoints.ipv4", "not to be had")
        );
    }
    let is_further = |port: &u16| ![80, 443].contains(port);
    let others = state.endpoints.children(env.id.any());
    let others = others.filter(|it| it.spec.ipv4 && it.name != asked.name);
    let ports = others.filter_map(|it| Some(it.spec.exposure.port()?.own.listen_port));
    let further = ports.filter(is_further).count();
    if asked.exposure.listen_port().is_some_and(|it| is_further(&it))
        && further >= FURTHER_IPV4_PORTS_MAX
    {
        let detail = format!(
            "an IPv4 address has 80, 443 and {FURTHER_IPV4_PORTS_MAX} further ports; \
             env `{}` uses them",
            env.name
        );
        return Err(Problem::new(Code::QuotaExceeded, detail)
            .hint("unexpose one of them, or leave out `ipv4` where IPv6 will do"));
    }
    Ok(())
}

/// Refuses a port the installation denies.
pub(super) fn refuse_denied(state: &State, port: u16) -> Result<(), Problem> {
    if !state.denied_ports.contains(port) {
        return Ok(());
    }
    let detail = format!(
        "no endpoint may listen on port {port}; the installation denies {}",
        state.denied_ports
    );
    Err(Problem::new(Code::PortDenied, detail)
        .field("endpoints.listen_port", format!("{port} is denied")))
}

/// Replaces the list of denied ports.
pub(super) fn deny(draft: &mut Draft<'_, '_>, command: &ports::Deny) -> Option<AnyId> {
    if draft.state.denied_ports != command.ports {
        let ports = command.ports.clone();
        draft.emit(Event::DeniedPortsSet(ports::Denied { ports }));
    }
    None
}

/// Refuses prefixes that an edge cannot serve.
pub(super) fn refuse_prefixes(state: &State, facts: &edge::Facts) -> Result<(), Problem> {
    let refused = |detail: String| {
        Err(Problem::new(Code::InvalidArgument, detail)
            .hint("correct `--addresses` of `helix edge` or `helix up`"))
    };
    if facts.addresses.len() > PREFIXES_MAX {
        return refused(format!("more than {PREFIXES_MAX} prefixes at one edge"));
    }
    match facts.addresses.iter().find(|prefix| state.is_own(prefix)) {
        Some(prefix) => refused(format!(
            "{prefix} overlaps {}, whose addresses the installation gives by itself",
            state.block()
        )),
        None => Ok(()),
    }
}
