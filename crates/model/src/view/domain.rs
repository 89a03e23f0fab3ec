//! What is shown of a domain: whether it is proven, and else what to do for it.

use super::{Described, three};
use crate::condition::Condition;
use crate::domain::{Proof, record_value};
use crate::{Domain, Reason, Resource, State, Table};

impl Described for Domain {
    fn table(state: &State) -> &Table<Self> {
        &state.domains
    }

    fn conditions(domain: &Resource<Domain>, _state: &State) -> Vec<Condition> {
        let (reason, message) = match (&domain.status.problem, domain.status.proof) {
            (Some(problem), Some(_)) => (problem.reason.code(), problem.message.clone()),
            (Some(problem), None) => {
                (problem.reason.code(), format!("{} {}", problem.message, to_do(domain)))
            }
            (None, Some(Proof::Record)) => ("proven", "Its record proves it.".to_owned()),
            (None, Some(Proof::Operator)) => ("proven", "An operator vouches for it.".to_owned()),
            (None, None) => (Reason::DomainUnproven.code(), to_do(domain)),
        };
        three(&domain.standing, reason, &message)
    }

    fn difference(domain: &Resource<Domain>, _state: &State) -> Option<String> {
        let problem = domain.status.problem.as_ref().map(|it| it.message.as_str());
        let problem = problem.map(|it| it.trim_end_matches('.'));
        match domain.status.proof {
            Some(_) => problem.map(str::to_owned),
            None => Some(problem.unwrap_or("its record has not been looked for yet").to_owned()),
        }
    }
}

fn to_do(domain: &Resource<Domain>) -> String {
    let (name, value) = (domain.spec.record_name(), record_value(domain.id));
    format!("Make a TXT record `{name}` with the value `{value}`.")
}
