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
    /// How it comes to the edges to see who has a host; into DNS alone when `None`.
    pub way: Option<Way>,
    /// A program that makes records in DNS.
    pub dns_hook: Option<PathBuf>,
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
    /// How the authority sees who has a host: by a request on port 80 of the edges, a
    /// handshake on 443 or a record in DNS; http-01 when absent (HELIX_ACME_CHALLENGE)
    #[arg(long, value_name = "KIND", value_enum)]
    acme_challenge: Option<ChallengeKind>,
    /// Program that makes records in DNS, which wildcards need; run on the server as
    /// PROGRAM set|remove NAME VALUE (HELIX_ACME_DNS_HOOK)
    #[arg(long, value_name = "PROGRAM")]
    acme_dns_hook: Option<PathBuf>,
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
    /// A record in DNS
    #[value(name = "dns-01")]
    Dns,
}

impl AcmeArgs {
    pub(crate) fn options(self, environment: &Environment) -> Result<Option<AcmeOptions>> {
        let variable = |name: &str| environment.get(name).map(str::to_owned);
        let directory = self.acme_directory.or_else(|| variable("HELIX_ACME_DIRECTORY"));
        let contact = self.acme_contact.or_else(|| variable("HELIX_ACME_CONTACT"));
        let ca_file = self.acme_ca.or_else(|| variable("HELIX_ACME_CA").map(PathBuf::from));
        let dns_hook = variable("HELIX_ACME_DNS_HOOK").map(PathBuf::from);
        let dns_hook = self.acme_dns_hook.or(dns_hook);
        let kind = match (self.acme_challenge, environment.get(CHALLENGE)) {
            (None, Some(text)) => Some(ChallengeKind::from_str(text, false).map_err(|_| {
                let detail = format!("{CHALLENGE} is no kind of challenge: `{text}`");
                Failure::usage(detail, "use http-01, tls-alpn-01 or dns-01")
            })?),
            (flag, _) => flag,
        };
        let Some(directory) = directory else {
            let has_more = contact.is_some() || ca_file.is_some() || kind.is_some();
            return match has_more || dns_hook.is_some() {
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
            None | Some(ChallengeKind::Http) => Some(Way::Http),
            Some(ChallengeKind::Tls) => Some(Way::Tls),
            Some(ChallengeKind::Dns) => None,
        };
        if way.is_none() && dns_hook.is_none() {
            return Err(Failure::usage(
                "nothing is named that makes records in DNS",
                "add `--acme-dns-hook PROGRAM`",
            ));
        }
        Ok(Some(AcmeOptions { directory, contact, way, dns_hook, ca_file }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        acme: AcmeArgs,
    }

    const DIRECTORY: &str = "https://acme.example/dir";

    fn options(words: &[&str], environment: Environment) -> Result<Option<AcmeOptions>> {
        let line = Line::try_parse_from(["helix"].iter().chain(words)).unwrap();
        line.acme.options(&environment)
    }

    fn with(words: &[&str]) -> AcmeOptions {
        let words = [&["--acme-directory", DIRECTORY], words].concat();
        options(&words, [].into()).unwrap().unwrap()
    }

    #[test]
    fn an_authority_is_named_by_a_flag_or_a_variable() {
        assert_eq!(options(&[], [].into()).unwrap(), None);
        let named = with(&["--acme-contact", "ops@acme.example"]);
        assert_eq!(named.contact.as_deref(), Some("mailto:ops@acme.example"));
        assert_eq!((named.way, named.dns_hook), (Some(Way::Http), None));
        let variables =
            [("HELIX_ACME_DIRECTORY", DIRECTORY), ("HELIX_ACME_CHALLENGE", "tls-alpn-01")];
        let named = options(&[], variables.into()).unwrap().unwrap();
        assert_eq!((named.directory.as_str(), named.way), (DIRECTORY, Some(Way::Tls)));
        let by_dns = with(&["--acme-challenge", "dns-01", "--acme-dns-hook", "/bin/hook"]);
        assert_eq!((by_dns.way, by_dns.dns_hook), (None, Some("/bin/hook".into())));
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_starts() {
        let refused = |words: &[&str], environment: Environment| {
            let failure = options(words, environment).unwrap_err();
            assert_eq!(failure.exit_code, 2);
            failure.problem.hint
        };
        let alone = refused(&["--acme-contact", "ops@acme.example"], [].into());
        assert!(alone.contains("--acme-directory"), "{alone}");
        refused(&["--acme-directory", "http://acme.example/dir"], [].into());
        let by_dns = ["--acme-directory", DIRECTORY, "--acme-challenge", "dns-01"];
        assert!(refused(&by_dns, [].into()).contains("--acme-dns-hook"));
        let wrong = [("HELIX_ACME_DIRECTORY", DIRECTORY), ("HELIX_ACME_CHALLENGE", "dns")];
        assert!(refused(&[], wrong.into()).contains("http-01"));
    }
}
