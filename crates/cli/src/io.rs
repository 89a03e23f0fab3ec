//! The world a command runs in: streams, environment variables, folder.
//!
//! Everything a command could reach for by itself comes in here, so that a test
//! can run any command inside its own process without touching this one's.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

/// Streams and surroundings of one run.
pub struct Io {
    /// What `exec` forwards.
    pub stdin: Box<dyn Read + Send>,
    /// Where results go.
    pub stdout: Box<dyn Write + Send>,
    /// Where progress and errors go.
    pub stderr: Box<dyn Write + Send>,
    /// Which of the three are a terminal.
    pub terminals: Terminals,
    /// Environment variables.
    pub environment: Environment,
    /// The folder the command was typed in.
    pub directory: PathBuf,
    /// The running `helix`, which the `static` pack puts into images.
    pub executable: PathBuf,
}

/// Which streams a person sits at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminals {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Environment variables by name.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Io {
    /// The process's own streams and surroundings.
    pub fn standard() -> std::io::Result<Io> {
        Ok(Io {
            stdin: Box::new(std::io::stdin()),
            stdout: Box::new(std::io::stdout()),
            stderr: Box::new(std::io::stderr()),
            terminals: Terminals {
                stdin: std::io::stdin().is_terminal(),
                stdout: std::io::stdout().is_terminal(),
                stderr: std::io::stderr().is_terminal(),
            },
            environment: Environment::of_process(),
            directory: std::env::current_dir()?,
            executable: std::env::current_exe()?,
        })
    }
}

impl Environment {
    /// The variables of this process. One that is not UTF-8 is none of ours.
    fn of_process() -> Environment {
        let variables = std::env::vars_os();
        Environment(
            variables
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    #[cfg(test)]
    pub(crate) fn from_pairs(variables: Vec<(String, String)>) -> Environment {
        Environment(variables.into_iter().collect())
    }

    /// A variable's value; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Environment(BTreeMap::from(owned))
    }
}
