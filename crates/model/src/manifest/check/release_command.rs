//! The rules of `[deploy]`.

use std::collections::BTreeMap;

use super::Checker;
use crate::Name;
use crate::manifest::source;
use crate::manifest::{Process, RELEASE_PROCESS, ReleaseCommand, RestartPolicy, Scaling};

/// Longer than a usual migration, shorter than anybody watches a terminal.
const TIMEOUT_DEFAULT_SECONDS: u64 = 300;
/// What takes longer should not stand in the way of a deploy.
const TIMEOUT_MAX_SECONDS: u64 = 3600;

/// Whose settings it has unless told otherwise, if there are several processes.
const PROCESS_DEFAULT: &str = "web";

impl Checker<'_> {
    pub(super) fn release_command(
        &mut self,
        source: source::Deploy,
        processes: &BTreeMap<Name, Process>,
    ) -> Option<Box<ReleaseCommand>> {
        let timeout = source.release_timeout_seconds;
        let timeout_seconds = timeout.unwrap_or(TIMEOUT_DEFAULT_SECONDS);
        if !(1..=TIMEOUT_MAX_SECONDS).contains(&timeout_seconds) {
            self.flaw("deploy.release_timeout_seconds", "from 1 to 3600");
        }
        let Some(command) = source.release_command else {
            if source.release_process.is_some() || timeout.is_some() {
                self.flaw("deploy", "needs release_command, such as [\"/app/migrate\"]");
            }
            return None;
        };
        if command.first().is_none_or(String::is_empty) {
            self.flaw("deploy.release_command", "empty; leave it out if there is nothing to run");
        }
        if processes.keys().any(|name| name.as_str() == RELEASE_PROCESS) {
            let message = "with a release command, no process can have this name";
            self.flaw(&format!("processes.{RELEASE_PROCESS}"), message);
        }
        let model = match &source.release_process {
            Some(wanted) => processes.iter().find(|(name, _)| name.as_str() == wanted),
            None if processes.len() == 1 => processes.iter().next(),
            None => processes.iter().find(|(name, _)| name.as_str() == PROCESS_DEFAULT),
        };
        let Some((_, model)) = model else {
            let message = match source.release_process {
                Some(_) => "names no process",
                None => "missing: whose user, variables and resources the command has",
            };
            self.flaw("deploy.release_process", message);
            return None;
        };
        Some(Box::new(ReleaseCommand { process: once(model, command), timeout_seconds }))
    }
}

/// A process as it is for one command that ends.
fn once(model: &Process, command: Vec<String>) -> Process {
    let mut process = model.clone();
    process.command = Some(command);
    process.scaling = Scaling { min: 1, max: 1 };
    process.restart.policy = RestartPolicy::Never;
    process.ports.clear();
    process.health = None;
    process.mounts.clear();
    process.prestart.clear();
    process
}
