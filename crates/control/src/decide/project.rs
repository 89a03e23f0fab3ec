//! Deciding on projects.

use helix_model::{AnyId, Code, Event, Kind, Problem, project};

use super::{Draft, destroy};

/// Makes a project; its name is unique in its org.
pub(super) fn create(
    draft: &mut Draft<'_, '_>,
    command: &project::Create,
) -> Result<Option<AnyId>, Problem> {
    if draft.state.orgs.get(command.org).is_none() {
        return Err(Problem::not_found(Kind::Org, &command.org.to_string()));
    }
    destroy::refuse_going(&draft.state, command.org.any())?;
    let namesake = draft.state.projects.named(Some(command.org.any()), &command.name);
    if let Some(namesake) = namesake {
        destroy::refuse_going(&draft.state, namesake.id.any())?;
        let detail = format!("there is already a project `{}`", command.name);
        return Err(Problem::new(Code::NameTaken, detail));
    }
    let id = draft.fresh_id();
    let created = project::Created { id, org: command.org, name: command.name.clone() };
    draft.emit(Event::ProjectCreated(created));
    Ok(Some(id.any()))
}
