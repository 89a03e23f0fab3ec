//! What is shown of a tunnel: whether an agent is attached, and for how long the name
//! is kept when none is.

use super::Described;
use crate::condition::{Condition, ConditionKind};
use crate::{Resource, State, Table, Tunnel};

impl Described for Tunnel {
    fn table(state: &State) -> &Table<Self> {
        &state.tunnels
    }

    fn conditions(tunnel: &Resource<Tunnel>, state: &State) -> Vec<Condition> {
        let (reason, message) = why(tunnel, state);
        let standing = &tunnel.standing;
        let (worse, problem) = match (&tunnel.spec.disabled, tunnel.status.problem()) {
            (Some(why), _) => ("disabled", format!("It was taken out of use: {why}.")),
            (None, Some(problem)) => ("limited", problem.to_owned()),
            (None, None) => ("as_desired", String::new()),
        };
        vec![
            standing.condition(ConditionKind::Ready, reason, message.clone()),
            standing.condition(ConditionKind::Connected, reason, message),
            standing.condition(ConditionKind::Degraded, worse, problem),
        ]
    }

    fn difference(tunnel: &Resource<Tunnel>, _state: &State) -> Option<String> {
        if let Some(why) = &tunnel.spec.disabled {
            return Some(format!("it was taken out of use: {why}"));
        }
        let problem = tunnel.status.problem().map(str::to_owned);
        let waits = tunnel.status.agents.is_empty();
        problem.or_else(|| waits.then(|| "no agent is attached".to_owned()))
    }
}

/// Why an agent is attached or not.
fn why(tunnel: &Resource<Tunnel>, state: &State) -> (&'static str, String) {
    if let Some(why) = &tunnel.spec.disabled {
        return ("disabled", format!("It was taken out of use: {why}."));
    }
    let at = |edge| state.edges.get(edge).map_or_else(String::new, |it| it.name.to_string());
    let edges: Vec<String> = tunnel.status.agents.keys().map(|edge| at(*edge)).collect();
    if !edges.is_empty() {
        return ("agent_attached", format!("An agent is attached at {}.", edges.join(", ")));
    }
    let kept = tunnel.status.kept_until.map(|end| format!(" The name is kept until {end}."));
    ("no_agent", format!("No agent is attached.{}", kept.unwrap_or_default()))
}
