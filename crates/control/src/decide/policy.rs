//! Deciding on what an org demands of its releases, and whether one meets it.

use helix_model::policy::{ENTRY_BYTES_MAX, PolicySet, REGISTRIES_MAX, Rule, SetPolicy};
use helix_model::registry::is_host;
use helix_model::release::Image;
use helix_model::{AnyId, App, Code, Event, Id, Kind, Problem, State};

use super::{Draft, destroy};

/// Sets the policy, when that changes anything.
pub(super) fn set(
    draft: &mut Draft<'_, '_>,
    command: &SetPolicy,
) -> Result<Option<AnyId>, Problem> {
    let SetPolicy { org, policy } = command.clone();
    let Some(known) = draft.state.orgs.get(org) else {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    };
    destroy::refuse_going(&draft.state, org.any())?;
    let wrong = |detail: String| {
        Problem::new(Code::InvalidArgument, detail)
            .hint("write entries as ghcr.io or ghcr.io/acme")
            .field("allowed_registries", "invalid")
    };
    if policy.allowed_registries.len() > REGISTRIES_MAX {
        return Err(wrong(format!("at most {REGISTRIES_MAX} registries can be named")));
    }
    for entry in &policy.allowed_registries {
        let host = entry.split('/').next().unwrap_or_default();
        if entry.len() > ENTRY_BYTES_MAX || entry.ends_with('/') || !is_host(host) {
            let shown: String = entry.chars().take(ENTRY_BYTES_MAX).collect();
            return Err(wrong(format!("`{shown}` is neither a registry nor a part of one")));
        }
    }
    if known.spec.policy != policy {
        draft.emit(Event::OrgPolicySet(PolicySet { org, policy }));
    }
    Ok(Some(org.any()))
}

/// Refuses a release that breaks a rule, and says which.
pub(super) fn check(
    state: &State,
    app: Id<App>,
    image: &Image,
    by_digest: bool,
) -> Result<(), Problem> {
    let org = state.apps.get(app).and_then(|app| state.orgs.get(app.spec.org));
    let Some(org) = org else { return Ok(()) };
    let policy = &org.spec.policy;
    let Some(rule) = policy.broken_by(image, by_digest) else { return Ok(()) };
    let (detail, hint) = match rule {
        Rule::AllowedRegistries => (
            format!(
                "`{}` is not from where org `{}` may release images: {}",
                image.repository,
                org.name,
                policy.allowed_registries.join(", ")
            ),
            "take the image from one of these, push it to the built-in registry by deploying a \
             folder, or have an admin allow more: `helix policy set`"
                .to_owned(),
        ),
        Rule::RequireDigest => (
            format!(
                "org `{}` releases images by digest only, and this one is named by a tag",
                org.name
            ),
            format!("name it as {}@{}", image.repository, image.digest),
        ),
    };
    Err(Problem::new(Code::ReleasePolicy, detail).hint(hint).field(rule.as_str(), "broken"))
}
