//! Proofs of domains: looking for their records, when somebody asks and by itself.
//!
//! Start from [`tend`], which the replica that reconciles does, and [`look_up`]. What a
//! finding means for whose a domain is, is decided in `control`.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use futures::future::join_all;
use helix_dns::{LookupError, Resolver};
use helix_model::domain::{self, Proof, Seen, record_value};
use helix_model::{
    Code, Command, Domain, Id, Problem, Reason, Resource, State, Timestamp, reference,
};
use tokio::time::Instant;

use crate::engine::{Engine, Origin};
use crate::{clock, entropy};

/// Who looks by itself, in events.
const ACTOR: &str = "domains";

/// How often it is looked which domains are due.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Lookups under way at once: a resolver that does not answer holds each for seconds.
const LOOKUPS_MAX: usize = 16;

/// Pauses between looks at a domain without proof, at first and at most. In between
/// they grow with its age: who has just added it is making the record now.
const UNPROVEN_MIN: Duration = Duration::from_secs(5);
const UNPROVEN_MAX: Duration = Duration::from_secs(60 * 60);

/// The part of its age that such a domain is left alone.
const AGE_DIVISOR: u32 = 12;

/// The pause of one whose record was there, and of one whose record is gone.
const PROVEN_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
const TROUBLED_EVERY: Duration = Duration::from_secs(10 * 60);

/// How names below the domain of the installation's apps, and proofs, are found.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    /// Whom to ask for the records of domains.
    pub resolver: Resolver,
    /// Where endpoints without a host get theirs; as before when `None`.
    pub app: Option<String>,
}

/// What a domain's record says.
pub(crate) async fn look_up(resolver: &Resolver, id: Id<Domain>, domain: &Domain) -> Seen {
    let name = domain.record_name();
    // The low bits of a random number are a random number.
    let number = || entropy::fresh() as u16;
    match resolver.texts(&name, number).await {
        Ok(texts) if texts.contains(&record_value(id)) => Seen::Record,
        Ok(texts) if texts.is_empty() => {
            Seen::Missing { message: format!("There is no TXT record `{name}`.") }
        }
        Ok(_) => Seen::Missing { message: format!("The TXT record `{name}` says something else.") },
        Err(error) => Seen::Unknown { message: told(&error) },
    }
}

fn told(error: &LookupError) -> String {
    let because = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let sentence = error.to_string();
    let mut letters = sentence.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase()).unwrap_or_default();
    format!("{first}{}{because}.", letters.as_str())
}

/// Why a domain is not proven after a look, for whoever asked for it.
pub(crate) fn unproven(state: &State, id: Id<Domain>) -> Option<Problem> {
    let domain = state.domains.get(id).filter(|it| it.status.proof.is_none())?;
    let trouble = domain.status.problem.as_ref()?;
    let code = match trouble.reason {
        Reason::DomainTaken => Code::DomainTaken,
        Reason::DomainLookupFailed => Code::Unavailable,
        _ => Code::DomainUnproven,
    };
    let (name, value) = (domain.spec.record_name(), record_value(id));
    let path = reference::path(state, id.any());
    let problem = Problem::new(code, trouble.message.trim_end_matches('.'));
    Some(match code {
        Code::DomainUnproven => problem.hint(format!(
            "make the TXT record `{name}` with the value `{value}`; it may take minutes to show: \
             `helix wait domain/{path}`"
        )),
        Code::Unavailable => {
            problem.hint("try again; the operator names another resolver with `--dns ADDRESS`")
        }
        _ => problem,
    })
}

/// Looks for records again and again, for as long as it is not dropped.
pub(crate) async fn tend(engine: Engine, resolver: Resolver) {
    let mut due: HashMap<Id<Domain>, Instant> = HashMap::new();
    loop {
        let state = engine.state();
        due.retain(|id, _| state.domains.get(*id).is_some());
        let now = Instant::now();
        let is_due = |id: &Id<Domain>| due.get(id).is_none_or(|due| *due <= now);
        let looked_at = state.domains.iter().filter(|it| {
            it.status.proof != Some(Proof::Operator)
                && state.destroying_since(it.id.any()).is_none()
                && is_due(&it.id)
        });
        let looked_at: Vec<Resource<Domain>> = looked_at.take(LOOKUPS_MAX).cloned().collect();
        drop(state);
        join_all(looked_at.iter().map(|it| look(&engine, &resolver, it))).await;
        let state = engine.state();
        for looked in &looked_at {
            if let Some(domain) = state.domains.get(looked.id) {
                due.insert(domain.id, Instant::now() + pause(domain, clock::now()));
            }
        }
        drop(state);
        // With many waiting, the next are looked at at once.
        if looked_at.len() < LOOKUPS_MAX {
            tokio::time::sleep(TEND_EVERY).await;
        }
    }
}

/// How long a domain is left alone.
fn pause(domain: &Resource<Domain>, now: Timestamp) -> Duration {
    match (domain.status.proof, &domain.status.problem) {
        (None, _) => {
            let age = now.since(domain.created_at);
            (age / AGE_DIVISOR).clamp(UNPROVEN_MIN, UNPROVEN_MAX)
        }
        (Some(_), Some(_)) => TROUBLED_EVERY,
        (Some(_), None) => PROVEN_EVERY,
    }
}

async fn look(engine: &Engine, resolver: &Resolver, domain: &Resource<Domain>) {
    let seen = look_up(resolver, domain.id, &domain.spec).await;
    let command = Command::ObserveDomain(domain::Observe { domain: domain.id, seen });
    let origin = Origin::system(ACTOR, entropy::request_id());
    if let Err(problem) = engine.submit(command, origin).await {
        tracing::debug!(%problem, "what was found of a domain cannot be recorded yet");
    }
}
