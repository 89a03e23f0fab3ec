//! Apps: one codebase, released again and again into envs.

use serde::{Deserialize, Serialize};

use crate::condition::Facts;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Org, Project, Resource};

/// An app belongs to a project and has releases and envs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub org: Id<Org>,
    pub project: Id<Project>,
}

/// What is known of an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// How many releases there have been; the next is one more.
    pub releases: u64,
}

impl Noun for App {
    const KIND: Kind = Kind::App;
    type Status = Status;

    /// An app stands as its envs do; that is looked up when asked for.
    fn facts(_app: &Resource<App>) -> Option<Facts> {
        None
    }
}

/// Command: make an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub project: Id<Project>,
    pub name: Name,
}

/// Event: an app was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<App>,
    pub org: Id<Org>,
    pub project: Id<Project>,
    pub name: Name,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let spec = App { org: self.org, project: self.project };
        let parent = Some(self.project.any());
        state.apps.insert(change.create(self.id, self.name.clone(), parent, spec));
    }
}
