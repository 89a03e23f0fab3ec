//! A release command runs at most once in a deploy, and nothing of the release runs
//! before it has ended well.

use helix_model::manifest::RELEASE_PROCESS;
use helix_model::{Event, State};

use super::{Failed, fail};

const NAME: &str = "release_command";

pub(crate) fn happened(failed: &mut Failed, before: &State, event: &Event) {
    let Event::InstanceAllocated(allocated) = event else { return };
    let spec = &allocated.spec;
    let Some(deploy) = spec.deploy.and_then(|deploy| before.deploys.get(deploy)) else { return };
    let release = before.releases.get(spec.release);
    if release.is_none_or(|release| release.spec.manifest.release_command.is_none()) {
        return;
    }
    let (name, of) = (&allocated.name, &deploy.name);
    if spec.process.as_str() == RELEASE_PROCESS {
        if let Some(ran) = &deploy.status.release_command {
            fail(failed, NAME, || format!("{name} runs what {} ran for {of} already", ran.name));
        }
    } else if deploy.awaits_release_command(before) {
        fail(failed, NAME, || format!("{name} is called for before the command of {of} is over"));
    }
}
