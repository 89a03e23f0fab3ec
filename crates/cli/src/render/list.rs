//! Lists: for each kind the columns a person looks for.

use helix_client::Seen;
use helix_model::node::Availability;
use helix_model::view::ResourceView;
use helix_model::{
    Certificate, Deploy, Domain, Edge, Endpoint, Env, Instance, Kind, Member, Node, Release,
    Snapshot, Timestamp, Token, Tunnel, User, Volume, certificate, deploy, endpoint, instance,
    snapshot, volume,
};

use super::{Names, word};
use crate::duration::age;
use crate::output::{Emphasis, Style, Table};

/// A list of one kind.
pub(crate) fn list(
    kind: Kind,
    views: &[ResourceView],
    names: &Names,
    now: Timestamp,
    style: &Style,
) -> String {
    if views.is_empty() {
        return format!("no {} here yet", kind.plural());
    }
    let mut table = match kind {
        Kind::Instance => instances(views, names, now),
        Kind::Deploy => deploys(views, names, now),
        Kind::Release => releases(views, now),
        Kind::Endpoint => endpoints(views, now),
        Kind::Env => envs(views, names, now),
        Kind::Node => nodes(views, now),
        Kind::Edge => edges(views, now),
        Kind::Volume => volumes(views, names, now),
        Kind::Snapshot => snapshots(views, names, now),
        Kind::Certificate => certificates(views, now),
        Kind::Domain => domains(views, now),
        Kind::Tunnel => tunnels(views, now),
        Kind::User => users(views, now),
        Kind::Member => members(views, now),
        Kind::Token => tokens(views, now),
        Kind::Org | Kind::Project | Kind::App | Kind::Bundle => plain(views, now),
    };
    table.render(style)
}

/// Views whose desired and current parts can be read. The server may be newer
/// and know what we do not; such a row would only lead astray.
fn seen<N: helix_model::Noun>(views: &[ResourceView]) -> impl Iterator<Item = Seen<N>> {
    views.iter().filter_map(|view| Seen::new(view.clone()).ok())
}

/// Instances with what is wrong with them.
pub(crate) fn instances(views: &[ResourceView], names: &Names, now: Timestamp) -> Table {
    let titles = ["INSTANCE", "RELEASE", "PHASE", "RESTARTS", "AGE", "NODE", "REASON"];
    let mut table = Table::new(titles);
    for it in seen::<Instance>(views) {
        let observed = &it.current.observed;
        let (phase, emphasis) = instance_phase(&it);
        let reason = observed.message.clone().or(observed.reason.map(|reason| reason.to_string()));
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                names.of(it.desired.release.any()),
                phase,
                observed.restarts.to_string(),
                age(it.view.created_at, now),
                names.of(it.desired.node.any()),
                reason.unwrap_or_default(),
            ],
        );
    }
    table
}

/// The phase, or what is desired when that says more.
fn instance_phase(it: &Seen<Instance>) -> (String, Emphasis) {
    let phase = it.current.observed.phase;
    match (it.desired.desired, phase) {
        (instance::Desired::Draining, _) => ("draining".to_owned(), Emphasis::Faint),
        (instance::Desired::Stopped, _) => (word(&phase), Emphasis::Faint),
        (instance::Desired::Running, instance::Phase::Ready) => (word(&phase), Emphasis::Normal),
        (instance::Desired::Running, instance::Phase::Failed) => (word(&phase), Emphasis::Bad),
        (instance::Desired::Running, _) => (word(&phase), Emphasis::Notable),
    }
}

/// Deploys with why they failed.
pub(crate) fn deploys(views: &[ResourceView], names: &Names, now: Timestamp) -> Table {
    let mut table = Table::new(["DEPLOY", "RELEASE", "INTENT", "PHASE", "AGE", "REASON"]);
    for it in seen::<Deploy>(views) {
        let emphasis = match it.current.phase {
            deploy::Phase::Succeeded => Emphasis::Normal,
            deploy::Phase::Failed => Emphasis::Bad,
            _ => Emphasis::Notable,
        };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                names.of(it.desired.release.any()),
                word(&it.desired.intent),
                word(&it.current.phase),
                age(it.view.created_at, now),
                it.current.message.unwrap_or_default(),
            ],
        );
    }
    table
}

fn releases(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["RELEASE", "APP", "SOURCE", "IMAGE", "AGE"]);
    for it in seen::<Release>(views) {
        let app = it.view.path.rsplit_once(':').map_or("", |(app, _)| app);
        // Twelve digits tell images apart as well as sixty-four.
        let digest: String = it.desired.image.digest.chars().take("sha256:".len() + 12).collect();
        table.row(
            Emphasis::Normal,
            [
                it.view.name.to_string(),
                app.to_owned(),
                it.desired.source.clone(),
                digest,
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

/// Endpoints with where they are reachable.
pub(crate) fn endpoints(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table =
        Table::new(["ENDPOINT", "PROCESS", "DECLARED", "REACHABLE AT", "AGE", "PROBLEM"]);
    for it in seen::<Endpoint>(views) {
        let reachable = it.current.seen.reachable.join(" ");
        let emphasis = match (&it.current.seen.problem, reachable.is_empty()) {
            (Some(_), true) => Emphasis::Bad,
            (None, false) => Emphasis::Normal,
            _ => Emphasis::Notable,
        };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                it.desired.process.to_string(),
                declared(&it.desired.exposure),
                if reachable.is_empty() { "-".to_owned() } else { reachable },
                age(it.view.created_at, now),
                problem(&it.current),
            ],
        );
    }
    table
}

/// What is wrong, and at how many edges where there are several: `describe` says at which.
fn problem(status: &endpoint::Status) -> String {
    let Some(problem) = &status.seen.problem else { return String::new() };
    let troubled = status.edges.values().filter(|seen| seen.problem.is_some()).count();
    match status.edges.len() {
        0 | 1 => problem.clone(),
        edges => format!("{problem} (at {troubled} of {edges} edges)"),
    }
}

/// What the internet can reach, wherever it belongs.
pub(crate) fn public(views: &[ResourceView], now: Timestamp, style: &Style) -> String {
    if views.is_empty() {
        return "nothing of the org can be reached from the internet".to_owned();
    }
    let mut table = Table::new(["ENDPOINT", "DECLARED", "REACHABLE AT", "AGE"]);
    for it in seen::<Endpoint>(views) {
        let reachable = it.current.seen.reachable.join(" ");
        let declared = declared(&it.desired.exposure);
        let age = age(it.view.created_at, now);
        table.row(Emphasis::Normal, [it.view.path.clone(), declared, reachable, age]);
    }
    table.render(style)
}

/// How an endpoint is reached, as it was asked for.
fn declared(exposure: &endpoint::Exposure) -> String {
    match exposure {
        endpoint::Exposure::Http { host } => format!("http {host}"),
        endpoint::Exposure::Tcp { address, listen_port } => {
            format!("tcp [{address}]:{listen_port}")
        }
        endpoint::Exposure::Tls { host, own: None } => format!("tls {host}"),
        endpoint::Exposure::Tls { host, own: Some(own) } => {
            format!("tls {host} [{}]:{}", own.address, own.listen_port)
        }
        endpoint::Exposure::Udp { address, listen_port } => {
            format!("udp [{address}]:{listen_port}")
        }
    }
}

fn envs(views: &[ResourceView], names: &Names, now: Timestamp) -> Table {
    let mut table = Table::new(["ENV", "SERVING", "DESIRED", "ADDRESS", "AGE", "DIFFERENCE"]);
    for it in seen::<Env>(views) {
        let name = |id: Option<helix_model::Id<Release>>| {
            id.map_or_else(|| "-".to_owned(), |id| names.of(id.any()))
        };
        let emphasis = match it.view.difference {
            Some(_) => Emphasis::Notable,
            None => Emphasis::Normal,
        };
        table.row(
            emphasis,
            [
                it.view.path.clone(),
                name(it.current.release),
                name(it.desired.release),
                it.desired.address.to_string(),
                age(it.view.created_at, now),
                it.view.difference.clone().unwrap_or_default(),
            ],
        );
    }
    table
}

fn nodes(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table =
        Table::new(["NODE", "CONNECTED", "USE", "ISOLATION", "CPUS", "MEMORY", "VERSION", "AGE"]);
    for it in seen::<Node>(views) {
        let fact = |read: fn(&helix_model::node::Facts) -> String| {
            it.current.facts.as_ref().map_or_else(|| "-".to_owned(), read)
        };
        let emphasis = if it.current.connected { Emphasis::Normal } else { Emphasis::Bad };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                if it.current.connected { "yes" } else { "no" }.to_owned(),
                match it.desired.availability {
                    Availability::Active if it.current.disk_pressure().is_some() => "disk full",
                    Availability::Active => "active",
                    Availability::Cordoned => "cordoned",
                    Availability::Draining => "draining",
                }
                .to_owned(),
                fact(|facts| facts.isolation.clone()),
                fact(|facts| facts.cpus.to_string()),
                fact(|facts| helix_model::manifest::format_bytes(facts.memory_bytes)),
                fact(|facts| facts.version.clone()),
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn edges(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["EDGE", "CONNECTED", "HTTP", "HTTPS", "VERSION", "AGE"]);
    for it in seen::<Edge>(views) {
        let facts = it.current.facts.clone().unwrap_or_default();
        let emphasis = if it.current.connected { Emphasis::Normal } else { Emphasis::Bad };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                if it.current.connected { "yes" } else { "no" }.to_owned(),
                facts.http.join(" "),
                facts.https.join(" "),
                facts.version,
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn volumes(views: &[ResourceView], names: &Names, now: Timestamp) -> Table {
    let titles = ["VOLUME", "SIZE", "STATE", "NODE", "ENV", "PROCESS", "AGE", "PROBLEM"];
    let mut table = Table::new(titles);
    for it in seen::<Volume>(views) {
        let observed = &it.current.observed;
        let emphasis = match observed.phase {
            volume::Phase::Available => Emphasis::Normal,
            volume::Phase::Failed => Emphasis::Bad,
            _ => Emphasis::Notable,
        };
        let unenforced = observed.phase == volume::Phase::Available && !observed.size_enforced;
        let size = helix_model::manifest::format_bytes(it.desired.size_bytes);
        let attachment = it.desired.attachment.as_ref();
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                if unenforced { format!("{size} (not enforced)") } else { size },
                word(&observed.phase),
                it.desired.node.map_or_else(|| "-".to_owned(), |node| names.of(node.any())),
                attachment.map_or_else(|| "-".to_owned(), |it| names.of(it.env.any())),
                attachment.map_or_else(|| "-".to_owned(), |it| it.process.to_string()),
                age(it.view.created_at, now),
                observed.message.clone().unwrap_or_default(),
            ],
        );
    }
    table
}

fn snapshots(views: &[ResourceView], names: &Names, now: Timestamp) -> Table {
    let mut table =
        Table::new(["SNAPSHOT", "VOLUME", "SIZE", "STORED", "STATE", "WHERE", "AGE", "PROBLEM"]);
    for it in seen::<Snapshot>(views) {
        let observed = &it.current.observed;
        let emphasis = match observed.phase {
            snapshot::Phase::Available => Emphasis::Normal,
            snapshot::Phase::Failed => Emphasis::Bad,
            _ => Emphasis::Notable,
        };
        let size = helix_model::manifest::format_bytes;
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                it.desired.volume_name.to_string(),
                size(it.desired.size_bytes),
                observed.stored_bytes.map_or_else(|| "-".to_owned(), size),
                word(&observed.phase),
                match it.desired.backup {
                    true => "backup".to_owned(),
                    false => names.of(it.desired.node.any()),
                },
                age(it.view.created_at, now),
                observed.message.clone().unwrap_or_default(),
            ],
        );
    }
    table
}

fn certificates(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["CERTIFICATE", "HOSTS", "ISSUER", "STATE", "EXPIRES", "AGE"]);
    for it in seen::<Certificate>(views) {
        let (phase, issued) = (it.desired.phase_at(now), it.desired.issued.as_ref());
        let emphasis = match phase {
            certificate::Phase::Valid if it.current.order.problem.is_none() => Emphasis::Normal,
            certificate::Phase::Valid
            | certificate::Phase::Expiring
            | certificate::Phase::Pending => Emphasis::Notable,
            certificate::Phase::Expired => Emphasis::Bad,
        };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                it.desired.names.join(" "),
                issued.map_or_else(|| "-".to_owned(), |it| it.issuer.clone()),
                word(&phase),
                match (phase, issued) {
                    (_, None) => it.current.order.problem.clone().unwrap_or_default(),
                    (certificate::Phase::Expired, Some(it)) => it.not_after.to_string(),
                    (_, Some(it)) => format!("in {}", age(now, it.not_after)),
                },
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn domains(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["DOMAIN", "NAME", "PROVEN BY", "AGE", "PROBLEM"]);
    for it in seen::<Domain>(views) {
        let (proof, problem) = (it.current.proof, it.current.problem);
        let emphasis = match (proof, &problem) {
            (Some(_), None) => Emphasis::Normal,
            _ => Emphasis::Notable,
        };
        let name = it.view.name.to_string();
        let proof = proof.map_or_else(|| "-".to_owned(), |proof| word(&proof));
        let problem = problem.map(|problem| problem.message).unwrap_or_default();
        let age = age(it.view.created_at, now);
        table.row(emphasis, [it.desired.domain, name, proof, age, problem]);
    }
    table
}

/// Tunnels with where they are reached, and for how long the name is kept.
fn tunnels(views: &[ResourceView], now: Timestamp) -> Table {
    let titles = ["TUNNEL", "PROTOCOL", "REACHED BY", "AGENT", "KEPT", "OWNER", "AGE"];
    let mut table = Table::new(titles);
    for it in seen::<Tunnel>(views) {
        let (spec, status) = (&it.desired, &it.current);
        let place = match (spec.exposure.host(), spec.exposure.port()) {
            (Some(host), _) => host.to_owned(),
            (None, Some((_, port))) => port.to_string(),
            (None, None) => String::new(),
        };
        let (agent, emphasis) = match (&spec.disabled, status.agents.values().next()) {
            (Some(_), _) => ("disabled".to_owned(), Emphasis::Bad),
            (None, Some(agent)) => (agent.transport.to_string(), Emphasis::Normal),
            (None, None) => ("-".to_owned(), Emphasis::Faint),
        };
        let kept = match status.kept_until {
            _ if spec.reserved => "for good".to_owned(),
            Some(end) => format!("for {}", age(now, end)),
            None => "-".to_owned(),
        };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                spec.exposure.protocol().to_owned(),
                status.reachable().first().map_or(place, |place| (*place).to_owned()),
                agent,
                kept,
                spec.owner.actor.name().to_owned(),
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn users(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["USER", "OPERATOR", "PASSWORD", "AGE"]);
    for it in seen::<User>(views) {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let set = it.current.password_set_at;
        let emphasis = if set.is_some() { Emphasis::Normal } else { Emphasis::Notable };
        table.row(
            emphasis,
            [
                it.view.name.to_string(),
                yes_no(it.desired.operator),
                set.map_or_else(|| "not chosen".to_owned(), |at| format!("{} ago", age(at, now))),
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn members(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["MEMBER", "ROLE", "PATH", "AGE"]);
    for it in seen::<Member>(views) {
        table.row(
            Emphasis::Normal,
            [
                it.view.name.to_string(),
                it.desired.role.to_string(),
                it.view.path.clone(),
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn tokens(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["TOKEN", "SCOPES", "LAST USED", "EXPIRES", "AGE"]);
    for it in seen::<Token>(views) {
        let scopes = it.desired.scopes.map_or_else(
            || "all of its user".to_owned(),
            |scopes| {
                let scopes: Vec<_> = scopes.iter().map(helix_model::Permission::as_str).collect();
                scopes.join(",")
            },
        );
        let expired = it.desired.expires_at <= now;
        let used = it.current.last_used_at;
        table.row(
            if expired { Emphasis::Bad } else { Emphasis::Normal },
            [
                it.view.path.clone(),
                scopes,
                used.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at, now))),
                if expired { "expired".to_owned() } else { it.desired.expires_at.to_string() },
                age(it.view.created_at, now),
            ],
        );
    }
    table
}

fn plain(views: &[ResourceView], now: Timestamp) -> Table {
    let mut table = Table::new(["NAME", "PATH", "STATE", "AGE"]);
    for view in views {
        let ready = view.condition(helix_model::condition::ConditionKind::Ready);
        let state = ready.map_or("", |condition| condition.reason.as_str());
        table.row(
            Emphasis::Normal,
            [view.name.to_string(), view.path.clone(), state.to_owned(), age(view.created_at, now)],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use helix_model::Id;

    use super::*;

    #[test]
    fn a_problem_says_at_how_many_edges_it_is() {
        let seen = |problem: Option<&str>| endpoint::Seen {
            problem: problem.map(str::to_owned),
            ..endpoint::Seen::default()
        };
        let of = |problems: &[Option<&str>]| {
            let ids = (1..).map(|number| Id::new(Timestamp(1), number));
            let edges = ids.zip(problems.iter().copied().map(seen)).collect();
            let first = problems.iter().flatten().next().copied();
            problem(&endpoint::Status { seen: seen(first), edges })
        };
        assert_eq!(of(&[None, None]), "");
        assert_eq!(of(&[Some("port 80 is taken")]), "port 80 is taken");
        let of_two = of(&[None, Some("port 80 is taken")]);
        assert_eq!(of_two, "port 80 is taken (at 1 of 2 edges)");
    }
}
