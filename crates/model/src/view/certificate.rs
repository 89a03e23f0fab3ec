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
        let end = certificate.spec.not_after;
        let (reason, message) = match certificate.status.phase {
            Phase::Valid => ("valid", format!("It is good until {end}.")),
            Phase::Expiring => {
                (Reason::CertificateExpiring.code(), format!("It is good until {end} only."))
            }
            Phase::Expired => {
                (Reason::CertificateExpired.code(), format!("It was good until {end}."))
            }
        };
        three(&certificate.standing, reason, &message)
    }

    fn difference(certificate: &Resource<Certificate>, _state: &State) -> Option<String> {
        let end = certificate.spec.not_after;
        match certificate.status.phase {
            Phase::Valid => None,
            Phase::Expiring => Some(format!("it expires at {end}: add the one after it")),
            Phase::Expired => Some(format!("it expired at {end}: add another")),
        }
    }
}
