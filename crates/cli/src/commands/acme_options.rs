//! Which authority issues certificates: flags that `up` and `server` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use helix_model::acme::Way;

use crate::failure::{Failure, Result};
use crate::io::Environment;

/// The variable that says how the authority sees who has a host.
const CHALLENGE: &str = "HELIX_ACME_CHALLENGE";

/// What was demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeOptions {
    /// The URL of the authority's directory.
    pub directory: String,
    /// Where it writes to.
    pub contact: Option<String>,
    /// How it comes to see who has a host.
    pub way: Way,
    /// Certificates (PEM) to trust when it is spoken to.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AcmeArgs {
    /// ACME authority to have certificates issued by for hosts of proven domains, whose
    /// terms you agree to; none are when absent (HELIX_ACME_DIRECTORY)
    #[arg(long, value_name = "URL")]
    acme_directory: Option<String>,
    /// Address the authority may write to (HELIX_ACME_CONTACT)
    #[arg(long, value_name = "EMAIL")]
    acme_contact: Option<String>,
    /// Certificates (PEM) to trust at the authority instead of the system's (HELIX_ACME_CA)
    #[arg(long, value_name = "FILE")]
    acme_ca: Option<PathBuf>,
    /// How the authority sees who has a host: by a request on port 80 of the edges or a
    /// handshake on 443; http-01 when absent (HELIX_ACME_CHALLENGE)
    #[arg(long, value_name = "KIND", value_enum)]
    acme_challenge: Option<ChallengeKind>,
}

/// A kind of challenge, as authorities call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ChallengeKind {
    /// A request on port 80
    #[value(name = "http-01")]
    Http,
    /// A handshake on port 443
    #[value(name = "tls-alpn-01")]
    Tls,
}

impl AcmeArgs {
    pub(crate) fn options(self, environment: &Environment) -> Result<Option<AcmeOptions>> {
        let variable = |name: &str| environment.get(name).map(str::to_owned);
        let directory = self.acme_directory.or_else(|| variable("HELIX_ACME_DIRECTORY"));
        let contact = self.acme_contact.or_else(|| variable("HELIX_ACME_CONTACT"));
        let ca_file = self.acme_ca.or_else(|| variable("HELIX_ACME_CA").map(PathBuf::from));
        let kind = match (self.acme_challenge, environment.get(CHALLENGE)) {
            (None, Some(text)) => Some(ChallengeKind::from_str(text, false).map_err(|_| {
                let detail = format!("{CHALLENGE} is no kind of challenge: `{text}`");
                Failure::usage(detail, "use http-01 or tls-alpn-01")
            })?),
            (flag, _) => flag,
        };
        let Some(directory) = directory else {
            return match contact.is_some() || ca_file.is_some() || kind.is_some() {
                true => Err(Failure::usage(
                    "it is not said which authority is to issue certificates",
                    "add `--acme-directory URL`, such as https://acme-v02.api.letsencrypt.org/directory",
                )),
                false => Ok(None),
            };
        };
        if !directory.starts_with("https://") {
            let detail = format!("`{directory}` is not the URL of an ACME directory");
            return Err(Failure::usage(detail, "it begins with https://"));
        }
        let contact = contact.map(|it| match it.starts_with("mailto:") {
            true => it,
            false => format!("mailto:{it}"),
        });
        let way = match kind {
            None | Some(ChallengeKind::Http) => Way::Http,
            Some(ChallengeKind::Tls) => Way::Tls,
        };
        Ok(Some(AcmeOptions { directory, contact, way, ca_file }))
    }
}
