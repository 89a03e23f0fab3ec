//! Deciding on orgs.

use helix_model::{AnyId, Code, Event, Problem, org};

use super::{Draft, destroy};

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
    Ok(Some(id.any()))
}
