//! Releases: an image and a manifest, fixed for ever.

use serde::{Deserialize, Serialize};

use crate::config::Configured;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{App, Id, Kind, Manifest, Name, Noun, Org};

/// An immutable release of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub org: Id<Org>,
    pub app: Id<App>,
    /// Counts up from 1 in the app; `v3` is its name.
    pub number: u64,
    pub image: Image,
    pub manifest: Manifest,
    /// Lower-case hex sha256 of the manifest's canonical JSON.
    pub manifest_hash: String,
    /// Where it came from, for people: a folder's name or an image reference.
    pub source: String,
    /// What of the manifest is not as it was written, because it was set of an env.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Box<Configured>>,
}

/// An image, fixed by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where to pull it from: `host/repository`, without tag or digest.
    pub repository: String,
    /// The tag it was asked by, if any; only ever shown.
    pub tag: Option<String>,
    /// `sha256:…` of the manifest that runs.
    pub digest: String,
}

impl Image {
    /// `host/repository@sha256:…`, the only form a node pulls by.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

impl Noun for Release {
    const KIND: Kind = Kind::Release;
    type Status = ();
}

/// Command: make a release without deploying it. The app is made when missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub org: Name,
    pub project: Name,
    pub app: Name,
    /// The env it is for, if it is for one: what is set of that is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Name>,
    pub image: Image,
    /// Whether it was named by digest, and not by a tag that stood for it.
    #[serde(default)]
    pub by_digest: bool,
    pub manifest: Manifest,
    /// Where the image came from, for people.
    pub source: String,
}

/// Event: a release was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Release>,
    pub name: Name,
    pub spec: Release,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let parent = Some(self.spec.app.any());
        state.apps.update(self.spec.app, |app| {
            app.status.releases = self.spec.number;
            change.touch(app);
        });
        state.releases.insert(change.create(self.id, self.name.clone(), parent, self.spec.clone()));
    }
}
