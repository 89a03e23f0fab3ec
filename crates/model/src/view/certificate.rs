//! What is shown of a certificate: whether clients take it, and for how long.

use super::{Described, three};
use crate::certificate::Phase;
use crate::condition::Condition;
use crate::{Certificate, Reason, Resource, State, Table};

impl Described for Certificate {
    fn table(state: &State) -> &Table<Self> {
        &state.certificates
    }

    fn conditions(certificate: &Resource<Certificate>, _state: &State) -> Vec<Condition> {
        let (reason, message) = match (&certificate.status.order.problem, phase(certificate)) {
            (Some(problem), _) => (Reason::CertificateOrderFailed.code(), problem.clone()),
            (None, (Phase::Pending, _)) => {
                (Reason::CertificatePending.code(), "It is being asked for.".to_owned())
            }
            (None, (Phase::Valid, end)) => ("valid", format!("It is good until {end}.")),
            (None, (Phase::Expiring, end)) => {
                (Reason::CertificateExpiring.code(), format!("It is good until {end} only."))
            }
            (None, (Phase::Expired, end)) => {
                (Reason::CertificateExpired.code(), format!("It was good until {end}."))
            }
        };
        three(&certificate.standing, reason, &message)
    }

    fn difference(certificate: &Resource<Certificate>, _state: &State) -> Option<String> {
        if let Some(problem) = &certificate.status.order.problem {
            return Some(problem.trim_end_matches('.').to_owned());
        }
        match phase(certificate) {
            (Phase::Valid, _) => None,
            (Phase::Pending, _) => Some("it has not been issued yet".to_owned()),
            (Phase::Expiring, end) => Some(format!("it expires at {end}: add the one after it")),
            (Phase::Expired, end) => Some(format!("it expired at {end}: add another")),
        }
    }
}

/// How much of its life is left, and its end.
fn phase(certificate: &Resource<Certificate>) -> (Phase, String) {
    let end = certificate.spec.issued.as_ref().map(|issued| issued.not_after.to_string());
    (certificate.status.phase, end.unwrap_or_default())
}
