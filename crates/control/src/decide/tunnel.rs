//! Deciding on tunnels: whose a name, a host and a port is, for how long, and who may
//! offer something by it.

use std::time::Duration;

use helix_model::destroy::Finished;
use helix_model::problem::FieldProblem;
use helix_model::tunnel::{
    self, Ask, Create, Exposure, KEPT_NOTED_EVERY, Of, Protocol, REASON_CHARS_MAX, RESERVED_NAMES,
    Wish,
};
use helix_model::{
    AnyId, Code, Edge, Event, Id, Kind, Name, Org, Problem, Resource, State, Tunnel, host, manifest,
};

use super::{Draft, anonymous, destroy, domain};

/// Letters of random names: without vowels no words come of them, and without what is
/// easily mistaken they can be read out.
const LETTERS: &[u8; 20] = b"bcdfghjkmnpqrstvwxyz";

/// Of these there are more names than anybody can try (20 to the 10th, a thousand
/// for each second of three hundred years).
const RANDOM_LETTERS: usize = 10;

/// Stands in for the name of a host of which no letter can be in a name.
const NAMELESS: &str = "tunnel";

/// Tunnels whose agents are lost with their edge by one command: the rest by the next.
const LOST_MAX: usize = 256;

/// Carries out what is asked of tunnels.
pub(super) fn change(draft: &mut Draft<'_, '_>, command: &Ask) -> Result<Option<AnyId>, Problem> {
    match command {
        Ask::Create(it) => create(draft, it),
        Ask::CreateAnonymous { name } => {
            let wish = anonymous::wish(draft, name.as_ref())?;
            create(draft, &wish)
        }
        Ask::Set(it) => set(draft, it),
        Ask::Observe(it) => Ok(observe(draft, it)),
        Ask::Expire { tunnel } => Ok(expire(draft, *tunnel)),
        Ask::Lose { edge } => Ok(lose(draft, *edge)),
    }
}

/// Gives somebody a tunnel, or again the one that is theirs.
fn create(draft: &mut Draft<'_, '_>, command: &Create) -> Result<Option<AnyId>, Problem> {
    let Some(org) = draft.state.orgs.get(command.org) else {
        return Err(Problem::not_found(Kind::Org, &command.org.to_string()));
    };
    destroy::refuse_going(&draft.state, org.id.any())?;
    refuse_misfit(command)?;
    if let Some(known) = known(&draft.state, command).cloned() {
        return again(draft, command, &known);
    }
    let name = name(draft, command)?;
    let exposure = exposure(&draft.state, command, &name)?;
    let spec = Tunnel {
        org: command.org,
        owner: command.owner.clone(),
        exposure,
        generation: 1,
        reserved: false,
        disabled: None,
        locked: false,
        kept_for_seconds: command.kept_for_seconds,
    };
    let id = draft.fresh_id();
    draft.emit(Event::TunnelCreated(tunnel::Created { id, name, spec }));
    Ok(Some(id.any()))
}

/// Refuses what is asked for of another protocol.
fn refuse_misfit(command: &Create) -> Result<(), Problem> {
    let protocol = command.protocol;
    let (field, what, goes_with) = match (&command.hostname, command.port) {
        (Some(_), _) if !protocol.has_host() => ("hostname", "a host name", "http and tls"),
        (_, Some(_)) if protocol.has_host() => ("port", "a port", "tcp and udp"),
        _ => return Ok(()),
    };
    let detail = format!("a tunnel for {protocol} is not reached by {what} of its own");
    Err(Problem::new(Code::InvalidArgument, detail)
        .hint(format!("leave it out, or ask for one of {goes_with}"))
        .field(field, format!("only with {goes_with}")))
}

/// The tunnel of the org that is meant: by its name, or else by what it is reached by.
fn known<'s>(state: &'s State, command: &Create) -> Option<&'s Resource<Tunnel>> {
    if let Some(name) = &command.name {
        return state.tunnels.named(Some(command.org.any()), name);
    }
    let by_host = command.hostname.as_ref().and_then(|it| state.hosts.get(it)?.typed());
    let transport = match command.protocol {
        Protocol::Udp => manifest::Transport::Udp,
        _ => manifest::Transport::Tcp,
    };
    let by_port =
        || command.port.and_then(|port| state.index.tunnel_port_owner(&(transport, port)));
    let found = state.tunnels.get(by_host.or_else(by_port)?)?;
    (found.spec.org == command.org).then_some(found)
}

/// Somebody wants a tunnel that is there.
fn again(
    draft: &mut Draft<'_, '_>,
    command: &Create,
    known: &Resource<Tunnel>,
) -> Result<Option<AnyId>, Problem> {
    let is_own = known.spec.owner == command.owner;
    let is_left = !known.spec.owner.is_there(&draft.state, command.org);
    if !is_own && !is_left && !command.may_take_over {
        return Err(name_taken(&known.name));
    }
    refuse_disabled(known)?;
    refuse_other(command, known)?;
    if !is_own {
        // Else both would have it by turns.
        let (owner, generation) = (command.owner.clone(), known.spec.generation + 1);
        let spec = Tunnel { owner, generation, ..known.spec.clone() };
        draft.emit(Event::TunnelUpdated(tunnel::Updated { of: Of::new(known), spec }));
    }
    keep(draft, known, command.kept_for_seconds);
    Ok(Some(known.id.any()))
}

/// Notes that a tunnel is still wanted, when that has not just been noted.
fn keep(draft: &mut Draft<'_, '_>, known: &Resource<Tunnel>, kept_for_seconds: u64) {
    let end = draft.context.now.plus(Duration::from_secs(kept_for_seconds));
    let is_later = known.status.kept_until.is_some_and(|it| end.since(it) >= KEPT_NOTED_EVERY);
    if is_later || kept_for_seconds != known.spec.kept_for_seconds {
        let of = Of::new(known);
        draft.emit(Event::TunnelKept(tunnel::Kept { of, kept_for_seconds }));
    }
}

/// Refuses to make another tunnel of one that is there.
fn refuse_other(command: &Create, known: &Resource<Tunnel>) -> Result<(), Problem> {
    let exposure = &known.spec.exposure;
    let port = exposure.port().map(|(_, port)| port);
    let difference = if exposure.kind() != command.protocol {
        Some(("protocol", exposure.protocol().to_owned()))
    } else if command.hostname.is_some() && command.hostname.as_deref() != exposure.host() {
        Some(("hostname", exposure.host().unwrap_or_default().to_owned()))
    } else if command.port.is_some() && command.port != port {
        Some(("port", port.unwrap_or_default().to_string()))
    } else {
        None
    };
    let Some((field, has)) = difference else { return Ok(()) };
    let name = &known.name;
    let detail = format!("tunnel `{name}` is there already, with the {field} {has}");
    Err(Problem::new(Code::Conflict, detail)
        .hint(format!("give the other one another name, or `helix tunnels delete {name}` first"))
        .field(field, format!("it is {has}")))
}

/// Refuses what is out of use, and says why it is.
fn refuse_disabled(tunnel: &Resource<Tunnel>) -> Result<(), Problem> {
    let Some(why) = &tunnel.spec.disabled else { return Ok(()) };
    let detail = format!("tunnel `{}` was taken out of use: {why}", tunnel.name);
    Err(Problem::new(Code::TunnelDisabled, detail))
}

/// The name a new tunnel is to have.
fn name(draft: &mut Draft<'_, '_>, command: &Create) -> Result<Name, Problem> {
    if let Some(name) = &command.name {
        if RESERVED_NAMES.contains(&name.as_str()) {
            let detail = format!("`{name}` is a name that the installation keeps for itself");
            return Err(Problem::new(Code::InvalidArgument, detail)
                .hint("ask for another name, or leave it out and get a random one")
                .field("requested_name", "reserved"));
        }
        return Ok(name.clone());
    }
    let org = command.org.any();
    if let Some(hostname) = &command.hostname {
        let is_unused = |name: &Name| draft.state.tunnels.named(Some(org), name).is_none();
        let name = Name::unused(hostname, NAMELESS, is_unused);
        return name.ok_or_else(|| Problem::new(Code::Internal, "no name is left for it"));
    }
    let name = random_name((draft.context.entropy)());
    name.ok_or_else(|| Problem::new(Code::Internal, "no name can be made for it"))
}

fn random_name(entropy: u128) -> Option<Name> {
    let mut rest = entropy;
    let letters = (0..RANDOM_LETTERS).map(|_| {
        let count = LETTERS.len() as u128;
        let letter = usize::try_from(rest % count).ok().and_then(|at| LETTERS.get(at)).copied();
        rest /= count;
        letter.map(char::from)
    });
    letters.collect::<Option<String>>()?.parse().ok()
}

/// How a new tunnel is to be reached.
fn exposure(state: &State, command: &Create, name: &Name) -> Result<Exposure, Problem> {
    let host = || match &command.hostname {
        Some(hostname) => own_host(state, command.org, hostname),
        None => shared_host(state, name),
    };
    Ok(match command.protocol {
        Protocol::Http => Exposure::Http { host: host()? },
        Protocol::Tls => Exposure::Tls { host: host()? },
        Protocol::Tcp => Exposure::Tcp { port: port(state, command, manifest::Transport::Tcp)? },
        Protocol::Udp => Exposure::Udp { port: port(state, command, manifest::Transport::Udp)? },
    })
}

/// The host below the domain of all apps that goes with a name.
fn shared_host(state: &State, name: &Name) -> Result<String, Problem> {
    let host = format!("{name}.{}", state.app_domain());
    if !host::is_exact(&host) {
        let detail = format!("no host name can be made of `{name}`");
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("end the name with a letter or a digit")
            .field("requested_name", "no host name"));
    }
    // Whose it is, and whether it is an endpoint's, is nobody else's business.
    match state.hosts.contains_key(&host) || is_edges_own(state, &host) {
        true => Err(name_taken(name)),
        false => Ok(host),
    }
}

/// A host of a domain that the org has proven.
fn own_host(state: &State, org: Id<Org>, hostname: &str) -> Result<String, Problem> {
    if !host::is_exact(hostname) {
        let shown: String = hostname.chars().take(host::LENGTH_MAX).collect();
        let detail = format!("`{shown}` is not a host name");
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("write it in ASCII and lower case, without a final dot or a wildcard")
            .field("hostname", "not a host name"));
    }
    if state.is_free(hostname) {
        let detail = format!("`{hostname}` is below a domain that everybody shares");
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("ask for a name instead: the host is made of it")
            .field("hostname", "no domain of the org's own"));
    }
    domain::refuse_unproven(state, org, hostname).map_err(|problem| {
        let message = format!("`{hostname}` is not proven");
        let details = vec![FieldProblem { field: "hostname".to_owned(), message }];
        Problem { details, ..problem }
    })?;
    if state.hosts.contains_key(hostname) || is_edges_own(state, hostname) {
        let detail = format!("the host name `{hostname}` is taken");
        return Err(Problem::new(Code::HostTaken, detail)
            .hint("`helix endpoints list` and `helix tunnels list` show whose it is")
            .field("hostname", "taken"));
    }
    Ok(hostname.to_owned())
}

/// Whether agents reach an edge by this host.
pub(super) fn is_edges_own(state: &State, host: &str) -> bool {
    let facts = state.edges.iter().filter_map(|edge| edge.status.facts.as_ref());
    facts.flat_map(|facts| &facts.agents).any(|agent| agent.host().as_deref() == Some(host))
}

/// The port asked for, or the lowest that is free.
fn port(state: &State, command: &Create, transport: manifest::Transport) -> Result<u16, Problem> {
    let range = state.tunnel_ports;
    let is_free = |port: &u16| state.index.tunnel_port_owner(&(transport, *port)).is_none();
    let Some(port) = command.port else {
        let mut free = range.all().filter(|port| !state.denied_ports.contains(*port));
        return free.find(is_free).ok_or_else(|| {
            let detail = format!("tunnels have all of the ports {range} that are for them");
            Problem::new(Code::TunnelPortsExhausted, detail)
        });
    };
    if !range.contains(port) || state.denied_ports.contains(port) {
        let detail = format!("tunnels get ports of {range}, and {port} is none of them");
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("ask for one of these, or leave it out and get the first that is free")
            .field("port", "not for tunnels"));
    }
    if !is_free(&port) {
        let detail = format!("port {port} belongs to another tunnel");
        return Err(Problem::new(Code::Conflict, detail)
            .hint("leave it out and get the first that is free")
            .field("port", "taken"));
    }
    Ok(port)
}

fn name_taken(name: &Name) -> Problem {
    Problem::new(Code::TunnelNameTaken, format!("the name `{name}` is taken"))
        .field("requested_name", "taken")
}

/// Has something about a tunnel be different.
fn set(draft: &mut Draft<'_, '_>, command: &tunnel::Set) -> Result<Option<AnyId>, Problem> {
    let Some(known) = draft.state.tunnels.get(command.tunnel).cloned() else {
        return Err(Problem::not_found(Kind::Tunnel, &command.tunnel.to_string()));
    };
    let mut spec = known.spec.clone();
    match &command.change {
        Wish::Reserve { reserved } => spec.reserved = *reserved,
        Wish::Disable { reason, by_operator } => {
            refuse_locked(&known, *by_operator)?;
            spec.disabled = Some(checked_reason(reason)?);
            spec.locked = *by_operator;
        }
        Wish::Enable { by_operator } => {
            refuse_locked(&known, *by_operator)?;
            (spec.disabled, spec.locked) = (None, false);
        }
        Wish::Rotate => spec.generation += 1,
        Wish::Keep { kept_for_seconds } => {
            refuse_disabled(&known)?;
            keep(draft, &known, *kept_for_seconds);
        }
    }
    if spec != known.spec {
        draft.emit(Event::TunnelUpdated(tunnel::Updated { of: Of::new(&known), spec }));
    }
    Ok(Some(known.id.any()))
}

/// What an operator has taken out of use is not the org's to take back.
fn refuse_locked(known: &Resource<Tunnel>, by_operator: bool) -> Result<(), Problem> {
    if !known.spec.locked || by_operator {
        return Ok(());
    }
    let detail = format!("tunnel `{}` was taken out of use by an operator", known.name);
    Err(Problem::new(Code::Forbidden, detail).hint("ask the operator of the installation"))
}

fn checked_reason(reason: &str) -> Result<String, Problem> {
    let reason = reason.trim();
    let is_fit = !reason.is_empty()
        && reason.chars().count() <= REASON_CHARS_MAX
        && !reason.chars().any(char::is_control);
    if is_fit {
        return Ok(reason.trim_end_matches('.').to_owned());
    }
    let detail = format!("a reason is one line of 1 to {REASON_CHARS_MAX} characters");
    Err(Problem::new(Code::InvalidArgument, detail)
        .hint("say in a sentence why, for the tunnel's owner to read")
        .field("reason", "not a sentence"))
}

/// Notes what an edge says of tunnels, as far as it is news.
fn observe(draft: &mut Draft<'_, '_>, command: &tunnel::Observe) -> Option<AnyId> {
    let edge = command.from.edge;
    if !command.from.is_current(&draft.state) {
        return None;
    }
    for told in &command.told {
        // What is gone nobody needs to know of, and of what is out of use only an edge
        // speaks which does not know it yet.
        let known = draft.state.tunnels.get(told.tunnel);
        let Some(known) = known.filter(|it| it.spec.disabled.is_none()) else { continue };
        let status = &known.status;
        let is_news = status.edges.get(&edge) != Some(&told.seen)
            || status.agents.get(&edge) != told.agent.as_ref();
        if is_news {
            let (of, seen, agent) = (Of::new(known), told.seen.clone(), told.agent.clone());
            let changed = tunnel::StatusChanged { of, edge, seen, agent };
            draft.emit(Event::TunnelStatusChanged(changed));
        }
    }
    Some(edge.any())
}

/// Notes that agents at an edge that is lost are not known to be there any more.
fn lose(draft: &mut Draft<'_, '_>, id: Id<Edge>) -> Option<AnyId> {
    let edge = draft.state.edges.get(id).filter(|edge| !edge.counts(draft.context.now))?;
    let edge = edge.id;
    let there = draft.state.tunnels.iter().filter(|it| it.status.agents.contains_key(&edge));
    let lost = there.take(LOST_MAX).map(|known| {
        let seen = known.status.edges.get(&edge).cloned().unwrap_or_default();
        tunnel::StatusChanged { of: Of::new(known), edge, seen, agent: None }
    });
    for changed in lost.collect::<Vec<_>>() {
        draft.emit(Event::TunnelStatusChanged(changed));
    }
    Some(edge.any())
}

/// Takes a name back whose time is over.
fn expire(draft: &mut Draft<'_, '_>, id: Id<Tunnel>) -> Option<AnyId> {
    let end = draft.state.tunnels.get(id)?.status.kept_until;
    if end.is_some_and(|end| end <= draft.context.now) {
        destroy(draft, id);
    }
    None
}

/// A tunnel goes at once: edges close what is open when it is in their plan no more.
pub(super) fn destroy(draft: &mut Draft<'_, '_>, id: Id<Tunnel>) {
    if let Some(of) = helix_model::destroy::Of::new(&draft.state, id.any()) {
        draft.emit(Event::TunnelDestroyed(Finished { of }));
    }
}

/// Gives the installation a key for tokens, if it has none.
pub(super) fn set_key(draft: &mut Draft<'_, '_>, command: &tunnel::SetKey) -> Option<AnyId> {
    if draft.state.tunnel_keys.is_empty() {
        let key = command.key.clone();
        draft.emit(Event::TunnelKeySet(tunnel::KeySet { key }));
    }
    None
}

/// Settles which ports tunnels get from now on.
pub(super) fn set_ports(draft: &mut Draft<'_, '_>, command: &tunnel::SetPorts) -> Option<AnyId> {
    let ports = command.ports;
    if draft.state.tunnel_ports != ports {
        draft.emit(Event::TunnelPortsSet(tunnel::PortsSet { ports }));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_have_ten_letters_and_differ() {
        let names: Vec<Name> = [0, 1, u128::MAX, 0x1234_5678_9abc_def0]
            .into_iter()
            .map(|entropy| random_name(entropy).unwrap())
            .collect();
        assert!(names.iter().all(|it| it.as_str().len() == RANDOM_LETTERS));
        assert!(names.windows(2).all(|it| it[0] != it[1]), "{names:?}");
    }
}
