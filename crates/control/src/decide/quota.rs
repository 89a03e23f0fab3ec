//! Deciding on quotas: what they are, and whether a change stays within them.
//!
//! A change is decided first and measured afterwards, on the state it would
//! lead to. So no command can be forgotten to be counted, and a batch of
//! commands that race each other is measured one after another.

use helix_model::quota::{self, Dimension, QuotaSet, Set, WARNING_PERCENT};
use helix_model::tally::{Tally, org_of};
use helix_model::{
    AnyId, Code, Command, Env, Event, Id, Kind, Manifest, Org, Problem, State, reference,
};

use super::Draft;

/// Sets limits, when that changes anything.
pub(super) fn set(draft: &mut Draft<'_, '_>, command: &Set) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    if let Some(org) = command.org.filter(|org| state.orgs.get(*org).is_none()) {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    }
    if command.limits.is_empty() {
        return Err(Problem::new(Code::InvalidArgument, "no limit was named")
            .hint("name a dimension and a limit, for example `helix quotas set acme apps=20`"));
    }
    let limits = command.limits.clone();
    let set = Event::QuotaSet(QuotaSet { org: command.org, limits });
    let mut after = draft.state.clone();
    after.apply(after.position + 1, draft.context.now, &set);
    if after.limits != draft.state.limits {
        draft.emit(set);
    }
    Ok(command.org.map(Id::any))
}

/// Refuses what would take an org above a limit, by more than it is already.
pub(super) fn check(
    before: &State,
    after: &State,
    command: &Command,
    subject: Option<AnyId>,
) -> Result<(), Problem> {
    let Some(org) = measured(after, command, subject) else {
        return Ok(());
    };
    if let Some(manifest) = deployed(after, command) {
        check_sizes(after, org, manifest)?;
    }
    let placing = matches!(command, Command::AllocateInstance(_));
    let (had, has) = (before.tally(org), after.tally(org));
    for dimension in Dimension::ALL.iter().copied() {
        let of = |tally: &Tally| match placing {
            true => tally.present.get(dimension),
            false => tally.used(dimension),
        };
        let (Some(had), Some(has)) = (of(&had), of(&has)) else {
            continue;
        };
        if has > had && has > after.limits.of(Some(org), dimension).0 {
            return Err(quota::exceeded(before, org, dimension, had, has - had));
        }
    }
    Ok(())
}

/// What a change has brought near its limit, a sentence each.
pub(super) fn warnings(
    before: &State,
    after: &State,
    command: &Command,
    subject: Option<AnyId>,
) -> Vec<String> {
    let Some(org) = measured(after, command, subject) else {
        return Vec::new();
    };
    let (had, has) = (before.tally(org), after.tally(org));
    let near = Dimension::ALL.iter().copied().filter_map(|dimension| {
        let (had, has) = (had.used(dimension)?, has.used(dimension)?);
        let limit = after.limits.of(Some(org), dimension).0;
        let percent = quota::percent(has, limit);
        (has > had && percent >= WARNING_PERCENT).then(|| {
            let (has, limit) = (dimension.format(has), dimension.format(limit));
            let org = reference::path(after, org.any());
            format!("org `{org}` uses {has} of {limit} {dimension} ({percent}%)")
        })
    });
    near.collect()
}

/// The org whose use a command may raise. What only brings to its end what was
/// within the limits when it was asked for is not measured again.
fn measured(after: &State, command: &Command, subject: Option<AnyId>) -> Option<Id<Org>> {
    match command {
        Command::CreateProject(_)
        | Command::CreateApp(_)
        | Command::CreateEnv(_)
        | Command::Deploy(_)
        | Command::CreateRelease(_)
        | Command::Promote(_)
        | Command::Rollback(_)
        | Command::Scale(_)
        | Command::SetIpv4(_)
        | Command::Configure(_)
        | Command::ExposeEndpoint(_)
        | Command::CreateVolume(_)
        | Command::ResizeVolume(_)
        | Command::CreateSnapshot(_)
        | Command::ChangeTunnel(_)
        | Command::AllocateInstance(_) => org_of(after, subject?),
        _ => None,
    }
}

/// The manifest that a command is about to run.
fn deployed<'s>(after: &'s State, command: &'s Command) -> Option<&'s Manifest> {
    match command {
        Command::Deploy(it) => Some(&it.manifest),
        Command::CreateRelease(it) => Some(&it.manifest),
        Command::Promote(it) => Some(&after.releases.get(it.release)?.spec.manifest),
        Command::Rollback(it) => desired(after, it.env),
        // A plan is looked at again when it is applied.
        Command::Configure(it) if !it.plan => desired(after, it.env),
        _ => None,
    }
}

fn desired(after: &State, env: Id<Env>) -> Option<&Manifest> {
    let release = after.envs.get(env)?.spec.release;
    Some(&after.releases.get(release?)?.spec.manifest)
}

fn check_sizes(state: &State, org: Id<Org>, manifest: &Manifest) -> Result<(), Problem> {
    let dimension = Dimension::InstanceMemory;
    let limit = state.limits.of(Some(org), dimension).0;
    let largest = manifest.processes.values().map(|process| process.resources.memory_bytes).max();
    match largest {
        Some(largest) if largest > limit => Err(quota::exceeded(state, org, dimension, 0, largest)),
        _ => Ok(()),
    }
}
