//! How other people's registries are reached: flags that `up`, `server` and `node`
//! share.

use std::path::PathBuf;

use clap::Args;

use crate::io::Environment;

/// Whom to trust, and whom to speak to in the clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Certificates (PEM) trusted besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Registries (`host:port`) without TLS.
    pub insecure: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Certificates (PEM) to trust at registries besides the system's (HELIX_REGISTRY_CA)
    #[arg(long, value_name = "FILE")]
    registry_ca: Vec<PathBuf>,
    /// Registry to speak to without TLS; loopback always is
    #[arg(long, value_name = "HOST:PORT")]
    insecure_registry: Vec<String>,
}

impl RegistryArgs {
    pub(crate) fn options(self, environment: &Environment) -> RegistryOptions {
        let mut ca_files = self.registry_ca;
        if ca_files.is_empty() {
            ca_files.extend(environment.get("HELIX_REGISTRY_CA").map(PathBuf::from));
        }
        RegistryOptions { ca_files, insecure: self.insecure_registry }
    }
}

/// Logins that every org may pull with; of servers.
#[derive(Debug, Args)]
pub(crate) struct RegistryLoginArgs {
    /// Docker config.json whose logins every org may pull images with (HELIX_REGISTRY_LOGINS)
    #[arg(long, value_name = "FILE")]
    registry_logins: Option<PathBuf>,
}

impl RegistryLoginArgs {
    pub(crate) fn file(self, environment: &Environment) -> Option<PathBuf> {
        let variable = || environment.get("HELIX_REGISTRY_LOGINS").map(PathBuf::from);
        self.registry_logins.or_else(variable)
    }
}
