//! From a state file to the events of an installation that is as it says.
//!
//! Start from [`decide`]. Each thing the file names is asked for with the command
//! a person would use, and decided by the same rules in the same order: nothing
//! gets in here that could not be made by hand. The first refusal ends it, with
//! the place in the document.

use std::collections::{BTreeMap, BTreeSet};

use helix_model::quota::Dimension;
use helix_model::state_file::{App, Env, Org, Project, StateFile, StateFileError};
use helix_model::{
    Command, Id, Name, Problem, State, app, deploy, domain, env, member, org, project, quota, user,
};

use crate::decide::Context;
use crate::round::{Origin, Round};

/// Decides all of a file on an empty state. What comes of it is one append.
///
/// # Errors
/// Names the place of the first thing that cannot be made.
pub fn decide(
    file: &StateFile,
    origin: &Origin,
    payload_max_bytes: usize,
    context: &mut Context<'_>,
) -> Result<Round, StateFileError> {
    let round = Round::on(&State::default(), payload_max_bytes);
    let mut making = Making { round, origin, context };
    making.take(".", Command::CreateInstallation)?;
    making.limits("quotas", None, &file.quotas)?;
    for (index, user) in file.users.iter().enumerate() {
        let create = user::Create { name: user.name.clone(), operator: user.operator };
        making.take(format!("users[{index}].name"), Command::CreateUser(create))?;
    }
    for (index, org) in file.orgs.iter().enumerate() {
        making.org(&format!("orgs[{index}]"), org)?;
    }
    Ok(making.round)
}

struct Making<'a, 'c> {
    round: Round,
    origin: &'a Origin,
    context: &'a mut Context<'c>,
}

impl Making<'_, '_> {
    fn take(&mut self, path: impl Into<String>, command: Command) -> Result<(), StateFileError> {
        self.round.take(&command, self.origin, None, self.context);
        match self.round.answers.last() {
            Some(Err(problem)) => Err(StateFileError::refused(path, problem)),
            _ => Ok(()),
        }
    }

    fn limits(
        &mut self,
        path: &str,
        org: Option<Id<helix_model::Org>>,
        limits: &BTreeMap<Dimension, u64>,
    ) -> Result<(), StateFileError> {
        if limits.is_empty() {
            return Ok(());
        }
        let limits = limits.iter().map(|(dimension, limit)| (*dimension, Some(*limit))).collect();
        self.take(path, Command::SetQuota(quota::Set { org, limits }))
    }

    fn org(&mut self, path: &str, wanted: &Org) -> Result<(), StateFileError> {
        let create = org::Create { name: wanted.name.clone() };
        self.take(format!("{path}.name"), Command::CreateOrg(create))?;
        let org = self.round.state.orgs.named(None, &wanted.name).map(|org| org.id);
        let org = org.ok_or_else(|| missing(path))?;
        self.limits(&format!("{path}.quotas"), Some(org), &wanted.quotas)?;
        let mut known = BTreeSet::new();
        for (index, it) in wanted.members.iter().enumerate() {
            let path = format!("{path}.members[{index}].user");
            once(&mut known, &it.user, &path)?;
            let user = self.round.state.users.named(None, &it.user).map(|user| user.id);
            let user = user.ok_or_else(|| {
                StateFileError::at(&path, format!("`{}` is not among `users`", it.user))
            })?;
            self.take(path, Command::SetMember(member::Set { org, user, role: it.role }))?;
        }
        self.domains(path, org, &wanted.domains)?;
        let mut known = BTreeSet::new();
        for (index, project) in wanted.projects.iter().enumerate() {
            let path = format!("{path}.projects[{index}]");
            once(&mut known, &project.name, &format!("{path}.name"))?;
            self.project(&path, org, &wanted.name, project)?;
        }
        Ok(())
    }

    /// Who writes the file runs the installation: their word proves what it names.
    fn domains(
        &mut self,
        path: &str,
        org: Id<helix_model::Org>,
        domains: &[String],
    ) -> Result<(), StateFileError> {
        for (index, domain) in domains.iter().enumerate() {
            let path = format!("{path}.domains[{index}]");
            let add = domain::Add { org, domain: domain.clone() };
            self.take(&path, Command::AddDomain(add))?;
            let added = self.round.state.domains.children(org.any());
            let added = added.filter(|it| it.spec.domain == *domain).map(|it| it.id).next();
            let added = added.ok_or_else(|| missing(&path))?;
            self.take(&path, Command::VouchForDomain(added))?;
        }
        Ok(())
    }

    fn project(
        &mut self,
        path: &str,
        org: Id<helix_model::Org>,
        org_name: &Name,
        wanted: &Project,
    ) -> Result<(), StateFileError> {
        let named =
            |state: &State| state.projects.named(Some(org.any()), &wanted.name).map(|it| it.id);
        // The first one came with the org.
        if named(&self.round.state).is_none() {
            let create = project::Create { org, name: wanted.name.clone() };
            self.take(format!("{path}.name"), Command::CreateProject(create))?;
        }
        let project = named(&self.round.state).ok_or_else(|| missing(path))?;
        for (index, app) in wanted.apps.iter().enumerate() {
            let path = format!("{path}.apps[{index}]");
            let create = app::Create { project, name: app.name.clone() };
            self.take(format!("{path}.name"), Command::CreateApp(create))?;
            self.envs(&path, (org_name, &wanted.name), project, app)?;
        }
        Ok(())
    }

    fn envs(
        &mut self,
        path: &str,
        (org, project_name): (&Name, &Name),
        project: Id<helix_model::Project>,
        wanted: &App,
    ) -> Result<(), StateFileError> {
        let app = self.round.state.apps.named(Some(project.any()), &wanted.name).map(|it| it.id);
        let app = app.ok_or_else(|| missing(path))?;
        for (index, env) in wanted.envs.iter().enumerate() {
            let path = format!("{path}.envs[{index}]");
            let create = env::Create { app, name: env.name.clone() };
            self.take(format!("{path}.name"), Command::CreateEnv(create))?;
            if let Some(release) = &env.release {
                let image = release.image.clone();
                let request = deploy::Request {
                    org: org.clone(),
                    project: project_name.clone(),
                    app: wanted.name.clone(),
                    env: env.name.clone(),
                    by_digest: true,
                    source: release.source.clone().unwrap_or_else(|| image.pinned()),
                    image,
                    manifest: release.manifest.clone(),
                };
                self.take(format!("{path}.release"), Command::Deploy(Box::new(request)))?;
            }
            self.scale(&path, app, env)?;
        }
        Ok(())
    }

    fn scale(
        &mut self,
        path: &str,
        app: Id<helix_model::App>,
        wanted: &Env,
    ) -> Result<(), StateFileError> {
        if wanted.scale.is_empty() {
            return Ok(());
        }
        let env = self.round.state.envs.named(Some(app.any()), &wanted.name).map(|it| it.id);
        let env = env.ok_or_else(|| missing(path))?;
        let processes = wanted.scale.clone();
        self.take(format!("{path}.scale"), Command::Scale(env::Scale { env, processes }))
    }
}

fn once<'n>(
    known: &mut BTreeSet<&'n Name>,
    name: &'n Name,
    path: &str,
) -> Result<(), StateFileError> {
    if known.insert(name) {
        return Ok(());
    }
    Err(StateFileError::at(path, format!("`{name}` is there already")))
}

/// What was just made is there; anything else would be our mistake.
fn missing(path: &str) -> StateFileError {
    StateFileError::refused(path, &Problem::new(helix_model::Code::Internal, "it was not made"))
}
