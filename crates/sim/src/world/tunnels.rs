//! What people want of tunnels, and agents that come and go at edges.

use helix_model::destroy::Destroy;
use helix_model::plan::{AttachedAgent, EdgePlan, TunnelReport};
use helix_model::tunnel::{Ask, Create, Owner, Protocol, Set, Transport, Wish};
use helix_model::{Actor, Command, State, Timestamp};

use super::World;
use super::wishes::pick_name;
use crate::random::Random;

/// The first letters of the hosts that endpoints want, too.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "www"];

/// How long a name is kept: some go while the run lasts.
const KEPT_FOR_SECONDS: [u64; 3] = [5, 20, 600];

/// How often something changes at an edge, of a hundred looks.
const CHANGES_PERCENT: u64 = 15;

/// A wish about tunnels.
pub(crate) fn wish(random: &mut Random, state: &State) -> Option<Command> {
    let tunnels: Vec<_> = state.tunnels.iter().map(|it| it.id).collect();
    let drawn = random.between(0, 99);
    if tunnels.is_empty() || drawn < 55 {
        let orgs: Vec<_> = state.orgs.iter().map(|it| it.id).collect();
        let protocols = [Protocol::Http, Protocol::Http, Protocol::Tls, Protocol::Tcp];
        let name = pick_name(random, &NAMES).filter(|_| random.percent(80));
        return Some(ask(Ask::Create(Create {
            org: random.pick(&orgs)?,
            owner: Owner { actor: Actor::Token("people".to_owned()), id: None },
            may_take_over: false,
            protocol: random.pick(&protocols)?,
            name,
            hostname: None,
            port: None,
            kept_for_seconds: random.pick(&KEPT_FOR_SECONDS)?,
        })));
    }
    let tunnel = random.pick(&tunnels)?;
    let change = match drawn {
        55..65 => Wish::Disable { reason: "drawn".to_owned(), by_operator: random.percent(30) },
        65..75 => Wish::Enable { by_operator: random.percent(50) },
        75..82 => Wish::Rotate,
        82..88 => Wish::Reserve { reserved: random.percent(50) },
        88..94 => Wish::Keep { kept_for_seconds: random.pick(&KEPT_FOR_SECONDS)? },
        _ => return Some(Command::Destroy(Destroy { target: tunnel.any(), cascade: false })),
    };
    Some(ask(Ask::Set(Set { tunnel, change })))
}

fn ask(change: Ask) -> Command {
    Command::ChangeTunnel(Box::new(change))
}

impl World {
    /// Now and then an agent attaches at an edge, or goes.
    pub(crate) fn agents_move(&mut self, index: usize) {
        let (random, edge) = (&mut self.random, &mut self.edges[index]);
        if edge.plan.tunnels.is_empty() || !random.percent(CHANGES_PERCENT) {
            return;
        }
        let tunnel = edge.plan.tunnels[random.index(edge.plan.tunnels.len())].id;
        if edge.agents.remove(&tunnel).is_none() {
            let now = i64::try_from(self.agenda.now).unwrap_or(0);
            edge.agents.insert(tunnel, Timestamp(now));
        }
    }
}

/// What an edge says of the tunnels of its plan.
pub(crate) fn reports(plan: &EdgePlan, agents: &super::edge::Agents) -> Vec<TunnelReport> {
    let report = |id| TunnelReport {
        id,
        reachable: vec![id.to_string()],
        problem: None,
        agent: agents.get(&id).map(|since| AttachedAgent {
            since: *since,
            version: String::new(),
            transport: Transport::Wss,
            address: None,
        }),
    };
    plan.tunnels.iter().map(|it| report(it.id)).collect()
}
