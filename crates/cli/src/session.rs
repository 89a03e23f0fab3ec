//! One run of one command: what it may use.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use helix_client::Client;

use crate::failure::{Failure, Result};
use crate::io::{Environment, Terminals};
use crate::output::Ui;
use crate::ready::Readiness;
use crate::settings::Settings;

/// Longer than any name.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Handed to every command.
pub(crate) struct Session<'s> {
    pub(crate) ui: &'s mut Ui,
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    pub(crate) terminals: Terminals,
    pub(crate) executable: std::path::PathBuf,
    pub(crate) confirmation: Confirmation,
    /// Taken by the one command that reads it.
    pub(crate) stdin: Option<Box<dyn Read + Send>>,
    /// Where parts of a process that stays say how they are doing.
    pub(crate) readiness: Readiness,
}

/// How questions are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmation {
    /// Each with yes.
    pub(crate) yes: bool,
    /// They are not asked.
    pub(crate) no_input: bool,
}

impl Session<'_> {
    /// Whether there is a person to ask.
    pub(crate) fn may_ask(&self) -> bool {
        let Terminals { stdin, stderr, .. } = self.terminals;
        stdin && stderr && !self.confirmation.no_input && !self.ui.json()
    }

    /// Asks a person; one line of answer.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String> {
        self.ui.question(question);
        let mut answer = String::new();
        if let Some(stdin) = self.stdin.take() {
            let read = BufReader::new(stdin.take(ANSWER_BYTES_MAX)).read_line(&mut answer);
            read.map_err(|error| {
                Failure::usage(format!("the answer cannot be read: {error}"), "add `--yes`")
            })?;
        }
        Ok(answer)
    }

    /// Where older history is kept: a flag, a variable, or nothing. What is a
    /// directory and not absolute is below the one this was typed in.
    pub(crate) fn archive(&self, flag: Option<&str>) -> Option<PathBuf> {
        self.place(flag, "HELIX_ARCHIVE")
    }

    /// Where backups of volumes go, if anywhere.
    pub(crate) fn backups(&self, flag: Option<&str>) -> Option<PathBuf> {
        self.place(flag, "HELIX_BACKUPS")
    }

    fn place(&self, flag: Option<&str>, variable: &str) -> Option<PathBuf> {
        let place = flag.or_else(|| self.environment.get(variable))?;
        let is_url = place.contains("://");
        Some(if is_url { place.into() } else { self.settings.directory.join(place) })
    }

    /// A client of the API the settings lead to.
    pub(crate) fn client(&self) -> Result<Client> {
        let token = self.settings.token()?;
        Ok(Client::new(&self.settings.url, token.as_deref())?)
    }
}
