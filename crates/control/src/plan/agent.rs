//! What an agent of a tunnel is told: where it connects, and what visitors open.

use std::net::SocketAddr;

use helix_model::api::{CANDIDATES_MAX, Candidate};
use helix_model::edge::{AgentUrl, Facts};
use helix_model::tunnel::Exposure;
use helix_model::{Edge, Resource, State, Tunnel};

/// The port that HTTPS has unless it is said.
const HTTPS_PORT: u16 = 443;

/// The same of HTTP.
const HTTP_PORT: u16 = 80;

/// Where an agent may connect, the best first; nothing where no edge takes agents.
///
/// Each edge once before any of them a second time: another edge is of more use than
/// another way to the same.
pub fn candidates(
    state: &State,
    tunnel: &Resource<Tunnel>,
    region: Option<&str>,
) -> Vec<Candidate> {
    let edges = in_order(state, tunnel, region);
    let most = edges.iter().map(|(_, facts)| facts.agents.len()).max().unwrap_or(0);
    let rounds = (0..most).flat_map(|round| edges.iter().map(move |edge| (round, edge)));
    let all = rounds.filter_map(|(round, (edge, facts))| {
        let agent = facts.agents.get(round)?;
        Some(Candidate {
            edge_id: edge.id,
            edge_url: agent.url.clone(),
            supported_transport: agent.transport,
            region: facts.region.clone(),
            note: note(tunnel, edge, facts, region),
        })
    });
    all.take(CANDIDATES_MAX).collect()
}

fn note(
    tunnel: &Resource<Tunnel>,
    edge: &Resource<Edge>,
    facts: &Facts,
    region: Option<&str>,
) -> Option<String> {
    if tunnel.status.agents.contains_key(&edge.id) {
        return Some("an agent of the tunnel is attached here".to_owned());
    }
    let region = region?;
    let is_there = facts.region.as_deref() == Some(region);
    (!is_there).then(|| format!("not in region {region}"))
}

/// Connected edges that take agents: those of the region first, and of these the one
/// that has the tunnel's agent. Others begin with another one for each tunnel, so that
/// not all agents come to one edge.
fn in_order<'s>(
    state: &'s State,
    tunnel: &Resource<Tunnel>,
    region: Option<&str>,
) -> Vec<(&'s Resource<Edge>, &'s Facts)> {
    let connected = state.edges.iter().filter(|edge| edge.status.connected);
    let known = connected.filter_map(|edge| Some((edge, edge.status.facts.as_ref()?)));
    let mut edges: Vec<_> = known.filter(|(_, facts)| !facts.agents.is_empty()).collect();
    if edges.is_empty() {
        return edges;
    }
    let turn: usize = tunnel.id.to_string().bytes().map(usize::from).sum();
    let first = turn % edges.len();
    edges.rotate_left(first);
    edges.sort_by_key(|(edge, facts)| {
        let is_elsewhere = region.is_some() && facts.region.as_deref() != region;
        (is_elsewhere, !tunnel.status.agents.contains_key(&edge.id))
    });
    edges
}

/// The host that visitors use and what they open, at the first of the candidates; `None`
/// without any.
pub fn public_place(
    state: &State,
    tunnel: &Resource<Tunnel>,
    candidates: &[Candidate],
) -> Option<(String, String)> {
    let first = candidates.first()?;
    let facts = state.edges.get(first.edge_id)?.status.facts.as_ref()?;
    let port_of = |places: &[String]| Some(places.first()?.parse::<SocketAddr>().ok()?.port());
    let protocol = tunnel.spec.exposure.protocol();
    Some(match &tunnel.spec.exposure {
        Exposure::Http { host } => {
            let url = match (port_of(&facts.https), port_of(&facts.http)) {
                (Some(port), _) => format!("https://{host}{}", suffix(port, HTTPS_PORT)),
                (None, Some(port)) => format!("http://{host}{}", suffix(port, HTTP_PORT)),
                (None, None) => format!("http://{host}"),
            };
            (host.clone(), url)
        }
        Exposure::Tls { host } => {
            let port = port_of(&facts.https).unwrap_or(HTTPS_PORT);
            (host.clone(), format!("tls://{host}:{port}"))
        }
        Exposure::Tcp { port } | Exposure::Udp { port } => {
            let url =
                AgentUrl { url: first.edge_url.clone(), transport: first.supported_transport };
            let host = url.host()?;
            let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            (host, format!("{protocol}://{shown}:{port}"))
        }
    })
}

fn suffix(port: u16, usual: u16) -> String {
    if port == usual { String::new() } else { format!(":{port}") }
}
