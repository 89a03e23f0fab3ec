//! Deciding on apps.

use helix_model::{App, Code, Event, Id, Kind, Problem, app};

use super::{Draft, destroy};

/// Makes an app; its name is unique in its project.
pub(super) fn create(draft: &mut Draft<'_, '_>, command: &app::Create) -> Result<Id<App>, Problem> {
    let Some(project) = draft.state.projects.get(command.project) else {
        return Err(Problem::not_found(Kind::Project, &command.project.to_string()));
    };
    destroy::refuse_going(&draft.state, project.id.any())?;
    let org = project.spec.org;
    let namesake = draft.state.apps.named(Some(command.project.any()), &command.name);
    if let Some(namesake) = namesake {
        destroy::refuse_going(&draft.state, namesake.id.any())?;
        let detail = format!("there is already an app `{}`", command.name);
        return Err(Problem::new(Code::NameTaken, detail));
    }
    let id = draft.fresh_id();
    let name = command.name.clone();
    draft.emit(Event::AppCreated(app::Created { id, org, project: command.project, name }));
    Ok(id)
}
