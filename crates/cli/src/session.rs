//! One run of one command: what it may use.

use std::io::Read;

use helix_client::Client;

use crate::failure::Result;
use crate::io::{Environment, Terminals};
use crate::output::Ui;
use crate::settings::Settings;

/// Handed to every command.
pub(crate) struct Session<'s> {
    pub(crate) ui: &'s mut Ui,
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    pub(crate) terminals: Terminals,
    pub(crate) executable: std::path::PathBuf,
    /// Taken by the one command that forwards it.
    pub(crate) stdin: Option<Box<dyn Read + Send>>,
}

impl Session<'_> {
    /// A client of the API the settings lead to.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.settings.url, self.settings.token.as_deref())?)
    }
}
