//! The state of one env on one screen: desired beside current, and why they
//! differ.

use helix_client::Seen;
use helix_model::view::ResourceView;
use helix_model::{Env, Instance, Name, Release, Timestamp, instance};
use serde::Serialize;

use super::{Names, list};
use helix_model::diff::Difference;

use crate::output::{Emphasis, Style, Table, pairs, plain};

/// What `helix status` shows and prints as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) target: String,
    /// `None` when nothing has been deployed there.
    pub(crate) env: Option<ResourceView>,
    pub(crate) releases: Releases,
    /// `None` when there were never any, or who asks may not see that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secrets: Option<Secrets>,
    /// What serves and is not as its manifest was written, because it was set of the env.
    pub(crate) set_apart: Vec<Difference>,
    pub(crate) processes: Vec<Process>,
    pub(crate) instances: Vec<ResourceView>,
    pub(crate) endpoints: Vec<ResourceView>,
    /// The newest first.
    pub(crate) deploys: Vec<ResourceView>,
    #[serde(skip)]
    pub(crate) names: Names,
}

/// Desired and current release, by name.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Releases {
    pub(crate) desired: Option<String>,
    pub(crate) current: Option<String>,
}

/// Which version of the secrets is desired, which one instances have, and which
/// one waits.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Secrets {
    pub(crate) desired: Option<u64>,
    pub(crate) applied: Option<u64>,
    pub(crate) staged: Option<u64>,
}

impl Secrets {
    fn line(&self) -> String {
        let version = |number: Option<u64>| {
            number.map_or_else(|| "none".to_owned(), |number| format!("version {number}"))
        };
        let (applied, desired) = (version(self.applied), version(self.desired));
        let mut line = match applied == desired {
            true => applied,
            false => format!("{applied} applied, {desired} desired"),
        };
        if let Some(staged) = self.staged {
            line.push_str(&format!(", version {staged} staged"));
        }
        line
    }
}

/// One process of the release that serves.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    pub(crate) name: Name,
    pub(crate) ready: usize,
    pub(crate) desired: u32,
}

/// Ready and desired instances per process of the release that serves.
pub(crate) fn processes(
    env: &Seen<Env>,
    serving: &Seen<Release>,
    instances: &[Seen<Instance>],
) -> Vec<Process> {
    let processes = &serving.desired.manifest.processes;
    let count = |name: &Name| {
        instances
            .iter()
            .filter(|instance| Some(instance.desired.release) == env.current.release)
            .filter(|instance| instance.desired.process == *name)
            .filter(|instance| instance.desired.desired == instance::Desired::Running)
            .filter(|instance| instance.current.observed.phase == instance::Phase::Ready)
            .count()
    };
    processes
        .iter()
        .map(|(name, process)| Process {
            name: name.clone(),
            ready: count(name),
            desired: env.desired.scale.get(name).copied().unwrap_or(process.scaling.min),
        })
        .collect()
}

/// The screen.
pub(crate) fn status(status: &Status, now: Timestamp, style: &Style) -> String {
    let Some(env) = &status.env else {
        return format!(
            "nothing is deployed at {} yet\n{}",
            style.bold(&status.target),
            super::next(&["helix deploy".to_owned(), "helix envs list --all".to_owned()], style),
        );
    };
    let mut text = headline(status, env, style);
    let mut processes = Table::new(["PROCESS", "READY", "DESIRED"]);
    for process in &status.processes {
        let enough = process.ready >= process.desired as usize;
        let emphasis = if enough { Emphasis::Normal } else { Emphasis::Notable };
        let cells =
            [process.name.to_string(), process.ready.to_string(), process.desired.to_string()];
        processes.row(emphasis, cells);
    }
    let tables = [
        processes,
        list::instances(&status.instances, &status.names, now),
        list::endpoints(&status.endpoints, now),
        list::deploys(&status.deploys, &status.names, now),
    ];
    for mut table in tables {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.render(style));
        }
    }
    text
}

fn headline(status: &Status, env: &ResourceView, style: &Style) -> String {
    let ready = env.condition(helix_model::condition::ConditionKind::Ready);
    let is_ready = ready.is_some_and(|condition| condition.status);
    let state = match is_ready {
        true => style.green("ready"),
        false => style.yellow("not ready"),
    };
    let mut text = format!("{}  {state}\n", style.bold(&status.target));
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
    let (current, desired) = (name(&status.releases.current), name(&status.releases.desired));
    let release = if current == desired {
        current
    } else {
        format!("{current} serves, {desired} is desired")
    };
    let mut rows = vec![("release", release)];
    if !status.set_apart.is_empty() {
        let fields: Vec<_> = status.set_apart.iter().map(|it| it.field.as_str()).collect();
        let fields = plain(&fields.join(", "));
        rows.push(("set apart", format!("{fields}  (not as in helix.toml; `helix diff`)")));
    }
    rows.extend(status.secrets.as_ref().map(|secrets| ("secrets", secrets.line())));
    if let Some(address) = env.desired.get("address").and_then(|address| address.as_str()) {
        let ipv4 = env.desired.get("ipv4").and_then(|ipv4| ipv4.as_str());
        let both = ipv4.map(|ipv4| format!("{address} {ipv4}"));
        rows.push(("address", both.unwrap_or_else(|| address.to_owned())));
    }
    if let Some(difference) = &env.difference {
        rows.push(("difference", plain(difference)));
    }
    text.push_str(&pairs(&rows, 2, style));
    text
}
