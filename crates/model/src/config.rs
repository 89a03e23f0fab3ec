//! What a person sets of an env apart from its manifest: variables, and what each process
//! may use.
//!
//! It is part of the releases made for that env, so that every change of it is a release:
//! deployed as any other, compared with what ran before, and undone by going back. Start
//! from [`Config::apply`]; [`Changes`] is what a person asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::{CPU_MAX, MEMORY_MIN_BYTES, format_bytes, is_variable_name};
use crate::{Code, Env, Id, Manifest, Name, Problem, Release, State};

/// Variables that may be set of one env, all processes together. A program with more is
/// better served by a file of its image.
pub const VARS_MAX: usize = 256;

/// Names and values together: an environment is copied to every process, and the kernel
/// takes no more than some of these.
pub const BYTES_MAX: usize = 64 * 1024;

/// What is set of an env. It wins over the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Variables of every process, and of the release command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<Name, ProcessConfig>,
}

/// What is set of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessConfig {
    /// They win over those of every process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
}

/// What of a release is not from its manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    /// The env it was set of; in another one it means nothing.
    pub env: Id<Env>,
    pub config: Config,
    /// The manifest as it was written.
    pub written: Manifest,
}

/// What is to be different. A value of none takes back what was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub vars: BTreeMap<String, Option<String>>,
    pub processes: BTreeMap<Name, ProcessChanges>,
}

/// The same for one process. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessChanges {
    pub vars: BTreeMap<String, Option<String>>,
    pub memory_bytes: Option<Option<u64>>,
    pub cpu: Option<Option<f64>>,
}

/// Command: make a release with another configuration of an env, and deploy it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configure {
    pub env: Id<Env>,
    pub changes: Changes,
    /// Make the release and leave it at that.
    pub plan: bool,
}

impl Configure {
    pub(crate) fn operation(&self) -> &'static str {
        if self.plan { "plan_config" } else { "configure" }
    }
}

impl Config {
    pub fn is_empty(&self) -> bool {
        *self == Config::default()
    }

    /// The manifest that runs.
    pub fn apply(&self, written: &Manifest) -> Manifest {
        let mut manifest = written.clone();
        if let Some(command) = &mut manifest.release_command {
            command.process.vars.extend(self.vars.clone());
        }
        for (name, process) in &mut manifest.processes {
            process.vars.extend(self.vars.clone());
            let Some(own) = self.processes.get(name) else { continue };
            process.vars.extend(own.vars.clone());
            let resources = &mut process.resources;
            resources.memory_bytes = own.memory_bytes.unwrap_or(resources.memory_bytes);
            resources.cpu = own.cpu.unwrap_or(resources.cpu);
        }
        manifest
    }

    /// Without what is set of processes that a manifest does not have.
    #[must_use]
    pub fn within(mut self, manifest: &Manifest) -> Config {
        self.processes.retain(|name, _| manifest.processes.contains_key(name));
        self
    }

    /// Refuses what no program could be given.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] with a field for each thing that is wrong.
    pub fn check(&self) -> Result<(), Problem> {
        let mut wrong: Vec<(String, String)> = Vec::new();
        let own = self.processes.iter().map(|(name, it)| (format!("processes.{name}."), &it.vars));
        let all = || std::iter::once((String::new(), &self.vars)).chain(own.clone());
        for (path, vars) in all() {
            for (name, value) in vars {
                if !is_variable_name(name) {
                    let rule = "variable names use A-Z, 0-9 and _".to_owned();
                    wrong.push((format!("{path}vars.{name}"), rule));
                } else if value.contains('\0') {
                    let rule = "a value cannot have a NUL".to_owned();
                    wrong.push((format!("{path}vars.{name}"), rule));
                }
            }
        }
        for (name, process) in &self.processes {
            if process.memory_bytes.is_some_and(|bytes| bytes < MEMORY_MIN_BYTES) {
                let rule = format!("at least {}", format_bytes(MEMORY_MIN_BYTES));
                wrong.push((format!("processes.{name}.memory"), rule));
            }
            if process.cpu.is_some_and(|cpu| !(cpu > 0.0 && cpu <= CPU_MAX)) {
                let rule = format!("more than 0 and at most {CPU_MAX}");
                wrong.push((format!("processes.{name}.cpu"), rule));
            }
        }
        let count: usize = all().map(|(_, vars)| vars.len()).sum();
        let bytes = |(name, value): (&String, &String)| name.len() + value.len();
        let bytes: usize = all().flat_map(|(_, vars)| vars.iter().map(bytes)).sum();
        if count > VARS_MAX || bytes > BYTES_MAX {
            let rule = format!("at most {VARS_MAX} variables and {BYTES_MAX} bytes of an env");
            wrong.push(("vars".to_owned(), rule));
        }
        let Some((field, rule)) = wrong.first() else { return Ok(()) };
        let problem = Problem::new(Code::InvalidArgument, format!("{field}: {rule}"));
        Err(wrong.into_iter().fold(problem, |problem, (field, rule)| problem.field(field, rule)))
    }
}

impl Changes {
    /// What is set once these are made.
    pub fn apply(&self, config: &Config) -> Config {
        let mut config = config.clone();
        change(&mut config.vars, &self.vars);
        for (name, changes) in &self.processes {
            let process = config.processes.entry(name.clone()).or_default();
            change(&mut process.vars, &changes.vars);
            process.memory_bytes = changes.memory_bytes.unwrap_or(process.memory_bytes);
            process.cpu = changes.cpu.unwrap_or(process.cpu);
        }
        config.processes.retain(|_, process| *process != ProcessConfig::default());
        config
    }
}

fn change(vars: &mut BTreeMap<String, String>, changes: &BTreeMap<String, Option<String>>) {
    for (name, value) in changes {
        match value {
            Some(value) => vars.insert(name.clone(), value.clone()),
            None => vars.remove(name),
        };
    }
}

impl Release {
    /// The manifest as it was written.
    pub fn written(&self) -> &Manifest {
        self.configured.as_ref().map_or(&self.manifest, |it| &it.written)
    }

    /// What was set of an env when this was made for it.
    pub fn config_of(&self, env: Id<Env>) -> Option<&Config> {
        self.configured.as_ref().filter(|it| it.env == env).map(|it| &it.config)
    }
}

/// What is set of an env: what the release has that it should be running.
pub fn of(state: &State, env: Id<Env>) -> Config {
    let release = state.envs.get(env).and_then(|env| state.releases.get(env.spec.release?));
    release.and_then(|release| release.spec.config_of(env)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Manifest {
        let text = "schema_version = \"v1\"\n[env]\nvars = { LEVEL = \"info\" }\n\
                    [processes.web]\nvars = { ROLE = \"web\" }\n[processes.worker]\n";
        crate::manifest::parse(text).unwrap()
    }

    fn web(changes: ProcessChanges) -> Changes {
        Changes { processes: [("web".parse().unwrap(), changes)].into(), ..Changes::default() }
    }

    #[test]
    fn what_is_set_wins_over_the_manifest_and_of_a_process_over_all() {
        let vars = [("LEVEL", "debug"), ("ROLE", "any")];
        let vars = vars.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let all = Changes { vars: vars.into(), ..Changes::default() };
        let own = ProcessChanges {
            vars: [("ROLE".to_owned(), Some("own".to_owned()))].into(),
            memory_bytes: Some(Some(128 << 20)),
            cpu: Some(Some(0.5)),
        };
        let config = web(own).apply(&all.apply(&Config::default()));
        let manifest = config.apply(&written());
        let of = |name: &str| &manifest.processes[&name.parse::<Name>().unwrap()];
        assert_eq!(
            (of("web").vars["LEVEL"].as_str(), of("web").vars["ROLE"].as_str()),
            ("debug", "own")
        );
        assert_eq!(of("worker").vars["ROLE"], "any");
        assert_eq!((of("web").resources.memory_bytes, of("web").resources.cpu), (128 << 20, 0.5));
        assert_eq!(of("worker").resources.memory_bytes, 256 << 20);
    }

    #[test]
    fn what_is_taken_back_is_as_in_the_manifest() {
        let set = ProcessChanges { memory_bytes: Some(Some(1 << 30)), ..Default::default() };
        let config = web(set).apply(&Config::default());
        assert!(!config.is_empty());
        let back = ProcessChanges { memory_bytes: Some(None), ..Default::default() };
        assert!(web(back).apply(&config).is_empty());
    }

    #[test]
    fn what_no_program_could_be_given_is_refused_field_by_field() {
        let vars =
            [("lower".to_owned(), Some(String::new())), ("NUL".to_owned(), Some("\0".to_owned()))];
        let own = ProcessChanges {
            vars: BTreeMap::new(),
            memory_bytes: Some(Some(1 << 20)),
            cpu: Some(Some(f64::NAN)),
        };
        let changes = Changes { vars: vars.into(), ..web(own) };
        let problem = changes.apply(&Config::default()).check().unwrap_err();
        let fields: Vec<_> = problem.details.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, ["vars.NUL", "vars.lower", "processes.web.memory", "processes.web.cpu"]);
        let many = (0..=VARS_MAX).map(|index| (format!("V{index}"), Some(String::new())));
        let changes = Changes { vars: many.collect(), ..Changes::default() };
        assert!(changes.apply(&Config::default()).check().is_err());
    }
}
