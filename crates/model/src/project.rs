//! Projects: a grouping of apps inside an org, never a second tenant boundary.

use serde::{Deserialize, Serialize};

use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Org};

/// A project groups apps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Project {
    pub org: Id<Org>,
}

impl Noun for Project {
    const KIND: Kind = Kind::Project;
    type Status = ();
}

/// Command: make a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub org: Id<Org>,
    pub name: Name,
}

/// Event: a project was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Project>,
    pub org: Id<Org>,
    pub name: Name,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let spec = Project { org: self.org };
        state.projects.insert(change.create(
            self.id,
            self.name.clone(),
            Some(self.org.any()),
            spec,
        ));
    }
}
