//! Deciding on domains: whose one is, and which hosts need it.

use helix_model::domain::{
    self, Domain, LENGTH_MAX, LOCAL, Of, PER_ORG_MAX, Proof, Seen, Trouble, record_value,
};
use helix_model::{
    AnyId, Code, Event, Id, Kind, Name, Org, Problem, Reason, Resource, State, host, reference,
};

use super::{Draft, destroy};

/// Stands in for the name of a domain of which no letter can be in a name.
const NAMELESS: &str = "domain";

/// Notes that an org says that a domain is its own. Others may say the same; whose it
/// is shows once one has proven it.
pub(super) fn add(
    draft: &mut Draft<'_, '_>,
    command: &domain::Add,
) -> Result<Option<AnyId>, Problem> {
    let domain::Add { org, domain } = command;
    let Some(org) = draft.state.orgs.get(*org) else {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    };
    destroy::refuse_going(&draft.state, org.id.any())?;
    refuse_unusable(&draft.state, domain)?;
    let org = org.id;
    if let Some(known) = of_org(&draft.state, org, domain) {
        destroy::refuse_going(&draft.state, known.id.any())?;
        return Ok(Some(known.id.any()));
    }
    if draft.state.domains.children(org.any()).count() >= PER_ORG_MAX {
        let detail = format!("the org has {PER_ORG_MAX} domains already");
        return Err(Problem::new(Code::QuotaExceeded, detail)
            .hint("destroy one that is not needed: `helix domains destroy NAME`"));
    }
    let is_unused = |name: &Name| draft.state.domains.named(Some(org.any()), name).is_none();
    // Two domains may differ only in what a name cannot have.
    let name = Name::unused(domain, NAMELESS, is_unused);
    let name = name.ok_or_else(|| Problem::new(Code::Internal, "no name is left for it"))?;
    let spec = Domain { org, domain: domain.clone() };
    let id = draft.fresh_id();
    draft.emit(Event::DomainCreated(domain::Created { id, name, spec }));
    Ok(Some(id.any()))
}

/// Takes an operator's word for it that a domain is its org's.
pub(super) fn vouch(draft: &mut Draft<'_, '_>, id: Id<Domain>) -> Result<Option<AnyId>, Problem> {
    let Some(known) = draft.state.domains.get(id) else {
        return Err(Problem::not_found(Kind::Domain, &id.to_string()));
    };
    destroy::refuse_going(&draft.state, id.any())?;
    if let Some(owner) = owner(&draft.state, known) {
        let detail = format!("org `{}` has proven `{}`", owner, known.spec.domain);
        return Err(Problem::new(Code::DomainTaken, detail)
            .hint("if it is that org's no longer, destroy its domain first"));
    }
    if known.status.proof.is_none() {
        let (of, proof) = (Of::new(known), Proof::Operator);
        draft.emit(Event::DomainProven(domain::Proven { of, proof }));
    }
    Ok(Some(id.any()))
}

/// Notes what a look at a domain's record found, when it is news.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &domain::Observe) -> Option<AnyId> {
    let known = draft.state.domains.get(command.domain)?;
    let id = known.id.any();
    if draft.state.destroying_since(id).is_some() {
        return Some(id);
    }
    let taken = owner(&draft.state, known).is_some();
    let problem = match (&command.seen, known.status.proof) {
        (_, Some(Proof::Operator)) | (Seen::Unknown { .. }, Some(Proof::Record)) => {
            return Some(id);
        }
        (Seen::Record, None) if !taken => {
            let (of, proof) = (Of::new(known), Proof::Record);
            draft.emit(Event::DomainProven(domain::Proven { of, proof }));
            return Some(id);
        }
        (Seen::Record, Some(Proof::Record)) => None,
        (Seen::Record, None) => Some(Trouble {
            reason: Reason::DomainTaken,
            message: "Its record is there, and another org has proven it before.".to_owned(),
        }),
        (Seen::Missing { message }, None) => {
            Some(Trouble { reason: Reason::DomainUnproven, message: message.clone() })
        }
        (Seen::Missing { message }, Some(Proof::Record)) => {
            Some(Trouble { reason: Reason::DomainRecordMissing, message: message.clone() })
        }
        (Seen::Unknown { message }, None) => {
            Some(Trouble { reason: Reason::DomainLookupFailed, message: message.clone() })
        }
    };
    if problem != known.status.problem {
        let of = Of::new(known);
        draft.emit(Event::DomainStatusChanged(domain::StatusChanged { of, problem }));
    }
    Some(id)
}

/// Settles where endpoints without a host get theirs from now on.
pub(super) fn set_app(
    draft: &mut Draft<'_, '_>,
    command: &domain::SetApp,
) -> Result<Option<AnyId>, Problem> {
    let domain = command.domain.clone();
    if !host::is_exact(&domain) || domain.len() > LENGTH_MAX {
        return Err(no_domain(&domain));
    }
    if draft.state.app_domain() != domain {
        draft.emit(Event::AppDomainSet(domain::AppSet { domain }));
    }
    Ok(None)
}

/// Refuses a host that nobody has shown to be the org's.
pub(super) fn refuse_unproven(state: &State, org: Id<Org>, host: &str) -> Result<(), Problem> {
    if state.may_have(org, host) {
        return Ok(());
    }
    let exact = host::exact_part(host);
    let known = host::upwards(exact).find_map(|domain| of_org(state, org, domain));
    let is_shared = [LOCAL, state.app_domain()].contains(&exact) && host::is_wildcard(host);
    let (detail, hint) = match known {
        _ if is_shared => (
            format!("`{host}` would stand for hosts of everybody"),
            format!("name the host, or take one further below, such as `*.web.{exact}`"),
        ),
        Some(known) => {
            let (name, value) = (known.spec.record_name(), record_value(known.id));
            let path = reference::path(state, known.id.any());
            let detail = match known.status.proof {
                // A longer one is another's.
                Some(_) => format!("`{host}` is below a domain that another org has proven"),
                None => format!("`{host}` needs proof that `{}` is the org's", known.spec.domain),
            };
            let hint = format!(
                "make the TXT record `{name}` with the value `{value}`, then \
                 `helix domains verify {path}`"
            );
            (detail, hint)
        }
        None => (
            format!("`{host}` needs proof that it, or a domain above it, is the org's"),
            format!(
                "`helix domains add {exact}` prints the TXT record `_helix.{exact}` to make; \
                 or take a host below `{}`, which needs none",
                state.app_domain()
            ),
        ),
    };
    Err(Problem::new(Code::DomainUnproven, detail)
        .hint(hint)
        .field("endpoints.host", format!("`{host}` is not proven")))
}

/// Refuses to let go of a domain that hosts need.
pub(super) fn refuse_needed(state: &State, id: Id<Domain>) -> Result<(), Problem> {
    let Some(domain) = state.domains.get(id) else { return Ok(()) };
    let hosts = state.hosts_by(domain);
    let Some(first) = hosts.first() else { return Ok(()) };
    let more = match hosts.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let detail =
        format!("endpoints or tunnels of the org have `{first}`{more} by `{}`", domain.spec.domain);
    Err(Problem::new(Code::DomainInUse, detail))
}

fn of_org<'s>(state: &'s State, org: Id<Org>, domain: &str) -> Option<&'s Resource<Domain>> {
    state.domains.children(org.any()).find(|it| it.spec.domain == domain)
}

/// The name of the org that has proven what is not proven to be this one's.
fn owner(state: &State, domain: &Resource<Domain>) -> Option<String> {
    let other = state.index.proven(&domain.spec.domain).filter(|it| *it != domain.id)?;
    let org = state.domains.get(other)?.spec.org;
    Some(reference::path(state, org.any()))
}

fn refuse_unusable(state: &State, domain: &str) -> Result<(), Problem> {
    if let Some(exact) = domain.strip_prefix("*.") {
        let detail = format!("`{domain}` is a wildcard");
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint(format!("add `{exact}`: it stands for every name below it as well"))
            .field("domain", "a wildcard"));
    }
    if !host::is_exact(domain) || domain.len() > LENGTH_MAX {
        return Err(no_domain(domain));
    }
    if state.is_free(domain) {
        let detail = format!("`{domain}` needs no proof: it belongs to whoever comes first");
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("set it as `host` of an endpoint in helix.toml and deploy")
            .field("domain", "needs no proof"));
    }
    Ok(())
}

fn no_domain(text: &str) -> Problem {
    let shown: String = text.chars().take(LENGTH_MAX).collect();
    Problem::new(Code::InvalidArgument, format!("`{shown}` is not a domain name"))
        .hint("it is written in ASCII and without a final dot, such as `example.com`")
        .field("domain", "not a domain name")
}
