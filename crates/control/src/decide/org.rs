//! Deciding on orgs.

use helix_model::{AnyId, Code, Event, Problem, org, project};

use super::{Draft, destroy, project as decide_project};

/// Makes an org; its name is unique in the installation.
pub(super) fn create(
    draft: &mut Draft<'_, '_>,
    command: &org::Create,
) -> Result<Option<AnyId>, Problem> {
    if let Some(namesake) = draft.state.orgs.named(None, &command.name) {
        destroy::refuse_going(&draft.state, namesake.id.any())?;
        let detail = format!("there is already an org `{}`", command.name);
        return Err(Problem::new(Code::NameTaken, detail));
    }
    let id = draft.fresh_id();
    draft.emit(Event::OrgCreated(org::Created { id, name: command.name.clone() }));
    // Commands that name no project mean this one.
    let first = org::FIRST_NAME.parse().map_err(|error: helix_model::name::NameError| {
        Problem::new(Code::Internal, error.to_string())
    })?;
    decide_project::create(draft, &project::Create { org: id, name: first })?;
    Ok(Some(id.any()))
}
