//! What is shown of an env's secrets: which version is desired, and which one the
//! instances have. Values are nowhere near.

use super::Described;
use crate::condition::{Condition, ConditionKind};
use crate::{Bundle, Env, Resource, State, Table, bundle};

impl Described for Bundle {
    fn table(state: &State) -> &Table<Self> {
        &state.bundles
    }

    fn conditions(bundle: &Resource<Bundle>, _state: &State) -> Vec<Condition> {
        let (reason, message) = match (bundle.desired(), bundle.spec.confirmed_none) {
            (Some(version), _) if !version.keys.is_empty() => {
                ("set", format!("Version {} is desired.", version.pin.number))
            }
            (_, true) => ("confirmed_none", "It was said that none are needed.".to_owned()),
            _ => ("empty", "There are none.".to_owned()),
        };
        vec![bundle.standing.condition(ConditionKind::Ready, reason, message)]
    }

    fn difference(bundle: &Resource<Bundle>, state: &State) -> Option<String> {
        state.envs.get(bundle.spec.env).and_then(|env| lag(env, state))
    }
}

/// How the secrets that the instances have differ from what is desired.
pub(super) fn lag(env: &Resource<Env>, state: &State) -> Option<String> {
    let desired = bundle::of(state, env.id)?.desired()?.pin;
    env.status.release?;
    let current = env.status.secrets;
    if bundle::is_same(current.as_ref(), Some(&desired)) {
        return None;
    }
    let has = match current {
        Some(pin) => format!("have version {}", pin.number),
        None => "have none".to_owned(),
    };
    Some(format!("version {} of the secrets is desired, the instances {has}", desired.number))
}
