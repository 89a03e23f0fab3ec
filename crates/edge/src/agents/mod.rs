//! Agents of tunnels: who may come in, who has which tunnel, and the way to them.
//!
//! An agent comes in by the [`door`], over TLS or [`quic`], with a token that the keys of
//! the plan have signed;
//! a [`session`] then runs its link and puts it into the [`Seat`] of its tunnel, which is
//! what traffic finds. A newer agent takes the seat over.

pub(crate) mod door;
mod probe;
pub(crate) mod quic;
mod replays;
mod resets;
mod seat;
mod session;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use helix_model::edge::AgentUrl;
use helix_model::plan::EdgePlan;
use helix_model::tunnel::Transport;
use helix_model::{Id, Tunnel};
use helix_tunnel::protocol::{Leave, PATH};
use helix_tunnel::token::VerifyingKey;
use http::Uri;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use self::replays::Replays;
pub(crate) use self::seat::Seat;

/// All that is known of agents.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    /// Hosts that agents are taken at, in lower case. None where they are not.
    hosts: HashSet<String>,
    seats: ArcSwap<HashMap<Id<Tunnel>, Arc<Seat>>>,
    keys: ArcSwap<Vec<VerifyingKey>>,
    /// Of the key of [`resets`].
    resets_file: Option<PathBuf>,
    replays: Mutex<Replays>,
    measuring: probe::Places,
    /// Told when somebody has taken a seat or left one.
    changed: Arc<Notify>,
    /// Told when there may be other seats.
    settled: watch::Sender<()>,
}

/// How long an agent waits for its tunnel to be in the plan: a grant can reach an agent
/// sooner than the plan its edge, by seconds where ten thousand are made one after the
/// other. Less than what an agent gives a candidate that has taken its connection before it
/// tries the next beside it.
const PLAN_WAIT: Duration = Duration::from_secs(4);

/// Beside the plan.
const RESETS_FILE: &str = "quic-resets.key";

/// Port that a URL leaves out.
const HTTPS_PORT: u16 = 443;

/// A URL that agents use: with the port that HTTPS is accepted at unless it says another,
/// and the path that is the door's where there are paths.
pub(crate) fn whole(url: &AgentUrl, https_port: u16) -> Option<AgentUrl> {
    let parsed: Uri = url.url.parse().ok()?;
    let (scheme, host) = (parsed.scheme_str()?, parsed.host()?);
    let port = match parsed.port_u16().unwrap_or(https_port) {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let path = if url.transport == Transport::Wss { PATH } else { "" };
    Some(AgentUrl { url: format!("{scheme}://{host}{port}{path}"), transport: url.transport })
}

impl Agents {
    /// Takes agents at the hosts of these URLs. What has to hold across a restart is kept
    /// beside the plan.
    pub(crate) fn at(urls: &[AgentUrl], plan_file: Option<&Path>) -> Agents {
        let hosts = urls.iter().filter_map(AgentUrl::host).collect();
        let resets_file = plan_file.map(|file| file.with_file_name(RESETS_FILE));
        Agents { hosts, resets_file, ..Agents::default() }
    }

    /// The hosts that agents are taken at.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(String::as_str)
    }

    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// The seat of a tunnel of the plan.
    pub(crate) fn seat(&self, tunnel: Id<Tunnel>) -> Option<Arc<Seat>> {
        self.seats.load().get(&tunnel).cloned()
    }

    /// The same for one that is about to be in the plan.
    async fn seat_soon(&self, tunnel: Id<Tunnel>) -> Option<Arc<Seat>> {
        let mut settled = self.settled.subscribe();
        let looking = async {
            loop {
                if let Some(seat) = self.seat(tunnel) {
                    return Some(seat);
                }
                settled.changed().await.ok()?;
            }
        };
        timeout(PLAN_WAIT, looking).await.ok().flatten()
    }

    /// Makes the seats those of the plan. Whoever sits where there is none any more, or
    /// came with a token that was taken back since, is sent away.
    pub(crate) fn settle(&self, plan: &EdgePlan) {
        let keys = plan.tunnel_keys.iter().filter_map(|key| {
            let read = VerifyingKey::from_base64url(&key.public);
            read.inspect_err(|error| tracing::warn!(key = key.id, %error, "a key of tunnels")).ok()
        });
        self.keys.store(Arc::new(keys.collect()));
        let before = self.seats.load_full();
        let seats = plan.tunnels.iter().map(|tunnel| {
            let seat = before.get(&tunnel.id).cloned();
            let seat = seat.unwrap_or_else(|| Arc::new(Seat::default()));
            seat.is_of_generation(tunnel.generation);
            (tunnel.id, seat)
        });
        let seats: HashMap<_, _> = seats.collect();
        let gone = before.iter().filter(|(id, _)| !seats.contains_key(id));
        let gone: Vec<_> = gone.map(|(_, seat)| Arc::clone(seat)).collect();
        self.seats.store(Arc::new(seats));
        self.settled.send_replace(());
        for seat in gone {
            seat.vacate(Leave::Revoked);
        }
    }

    /// Sends all away: others are to be attached to.
    pub(crate) fn drain(&self) {
        for seat in self.seats.load().values() {
            seat.vacate(Leave::Draining);
        }
    }

    fn replays(&self) -> std::sync::MutexGuard<'_, Replays> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use helix_model::plan::TunnelPlan;
    use helix_model::tunnel::Exposure;
    use helix_model::{Name, Timestamp};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A plan with these tunnels.
    fn plan(tunnels: &[Id<Tunnel>]) -> EdgePlan {
        let tunnel = |id: &Id<Tunnel>| TunnelPlan {
            id: *id,
            name: "demo".parse::<Name>().unwrap(),
            exposure: Exposure::Http { host: format!("{id}.example") },
            generation: 0,
            certificate: None,
        };
        EdgePlan { tunnels: tunnels.iter().map(tunnel).collect(), ..EdgePlan::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_waits_for_its_tunnel_to_be_in_the_plan_and_not_for_ever() {
        let agents = Agents::default();
        let (tunnel, other) = (Id::new(Timestamp(1), 1), Id::new(Timestamp(1), 2));
        let begun = Instant::now();
        let planning = async {
            agents.settle(&plan(&[other]));
            sleep(PLAN_WAIT / 2).await;
            agents.settle(&plan(&[other, tunnel]));
        };
        let (seat, ()) = tokio::join!(agents.seat_soon(tunnel), planning);
        assert!(Arc::ptr_eq(&seat.unwrap(), &agents.seat(tunnel).unwrap()));
        assert_eq!(begun.elapsed(), PLAN_WAIT / 2);
        let nobodys = Id::new(Timestamp(1), 3);
        let begun = Instant::now();
        assert!(agents.seat_soon(nobodys).await.is_none());
        assert!(begun.elapsed() >= PLAN_WAIT);
    }

    #[test]
    fn a_url_for_agents_has_the_port_they_come_to() {
        let whole = |url: &str| {
            let url = AgentUrl { url: url.to_owned(), transport: Transport::Wss };
            whole(&url, 8443).map(|it| it.url)
        };
        let at = |text: &str| Some(format!("{text}/.helix/tunnel"));
        assert_eq!(whole("wss://edge.example"), at("wss://edge.example:8443"));
        assert_eq!(whole("wss://edge.example:443"), at("wss://edge.example"));
        assert_eq!(whole("wss://[fd00::1]:9443"), at("wss://[fd00::1]:9443"));
        assert_eq!(whole("edge.example"), None);
    }
}
