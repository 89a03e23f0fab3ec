//! What an edge's report says that the state does not: each edge tells all it
//! knows whenever any of it changes, and most of that has been recorded before.

use std::collections::BTreeSet;

use helix_model::edge::Linked;
use helix_model::instance::Desired;
use helix_model::plan::{EdgeReport, TunnelReport};
use helix_model::{
    Certificate, Command, Instance, Resource, State, acme, endpoint, instance, tunnel,
};

/// The commands in what an edge reports over a link. A state that is older than the plan the
/// edge follows cannot tell what is known already: all of it is passed on then,
/// since nothing repeats a report.
pub fn edge_commands(state: &State, from: Linked, report: EdgeReport) -> Vec<Command> {
    let is_behind = state.position < report.version;
    let drained = report.drained.into_iter().filter(|id| {
        let known = state.instances.get(*id);
        let is_news = |it: &Resource<Instance>| {
            it.spec.desired == Desired::Draining && !it.status.drained_by.contains(&from.edge)
        };
        is_behind || known.is_some_and(is_news)
    });
    let drained: BTreeSet<_> = drained.collect();
    let now = report.routed.as_ref();
    let is_routed = |it: &Resource<Instance>| it.status.routed_by.contains(&from.edge);
    let began = now
        .into_iter()
        .flatten()
        .copied()
        .filter(|id| is_behind || state.instances.get(*id).is_some_and(|it| !is_routed(it)));
    let ceased = state.instances.iter().filter(|it| {
        // Drained says as much.
        is_routed(it) && now.is_some_and(|now| !now.contains(&it.id)) && !drained.contains(&it.id)
    });
    let routed = began.map(|id| (id, true)).chain(ceased.map(|it| (it.id, false)));
    let routed = routed.map(|(instance, routed)| {
        Command::SetInstanceRouted(instance::SetRouted { instance, from, routed })
    });
    let endpoints = report.endpoints.into_iter().filter_map(|it| {
        let seen = endpoint::Seen { reachable: it.reachable, problem: it.problem, reach: it.reach };
        let known = state.endpoints.get(it.id);
        let is_news = known.is_some_and(|known| known.status.edges.get(&from.edge) != Some(&seen));
        let observe = endpoint::Observe { endpoint: it.id, from, seen };
        (is_behind || is_news).then_some(Command::ObserveEndpoint(observe))
    });
    let tunnels = tunnel_commands(state, from, report.tunnels, is_behind);
    let answering = report.answering;
    let is_news = |it: &Resource<Certificate>| {
        let order = &it.status.order;
        !order.answered_by.contains(&from.edge)
            && order.challenges.iter().any(|it| answering.contains(&it.token))
    };
    let has_news = !answering.is_empty() && (is_behind || state.certificates.iter().any(is_news));
    let answered = has_news
        .then_some(Command::ObserveChallenges(acme::Observe { from, tokens: answering.clone() }));
    let emptied =
        drained.iter().map(|instance| instance::MarkDrained { instance: *instance, from });
    emptied
        .map(Command::MarkDrained)
        .chain(routed)
        .chain(endpoints)
        .chain(tunnels)
        .chain(answered)
        .collect()
}

/// Tunnels in one command: each has an event, and what is appended at once is waited for by
/// everybody else.
const TOLD_MAX: usize = 500;

fn tunnel_commands(
    state: &State,
    from: Linked,
    reports: Vec<TunnelReport>,
    is_behind: bool,
) -> Vec<Command> {
    let told = reports.into_iter().map(|it| tunnel::Told {
        tunnel: it.id,
        seen: tunnel::Seen { reachable: it.reachable, problem: it.problem },
        agent: it.agent.map(tunnel::Attached::from),
    });
    let is_news = |told: &tunnel::Told| {
        let known = state.tunnels.get(told.tunnel).map(|known| &known.status);
        known.is_some_and(|known| {
            known.edges.get(&from.edge) != Some(&told.seen)
                || known.agents.get(&from.edge) != told.agent.as_ref()
        })
    };
    let news: Vec<_> = told.filter(|told| is_behind || is_news(told)).collect();
    let observe = |told: &[tunnel::Told]| {
        let observe = tunnel::Observe { from, told: told.to_vec() };
        Command::ChangeTunnel(Box::new(tunnel::Ask::Observe(observe)))
    };
    news.chunks(TOLD_MAX).map(observe).collect()
}

#[cfg(test)]
mod tests {
    use helix_model::Id;

    use super::*;

    #[test]
    fn a_state_behind_the_edges_plan_passes_on_all_that_is_told() {
        let id = |n| Id::new(helix_model::Timestamp(1), n);
        let report = EdgeReport {
            version: 7,
            drained: vec![id(1)],
            routed: Some(BTreeSet::from([id(2)])),
            ..EdgeReport::default()
        };
        let mut state = State::default();
        let from = Linked { edge: Id::new(helix_model::Timestamp(1), 3), link: 1 };
        let told = edge_commands(&state, from, report.clone());
        assert!(matches!(told[..], [Command::MarkDrained(_), Command::SetInstanceRouted(_)]));
        state.position = 7;
        assert_eq!(edge_commands(&state, from, report), [], "of neither is anything known");
    }
}
