//! `helix certificates`: what hosts are served with over TLS.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use helix_model::api::CertificateRequest;
use helix_model::{Certificate, Kind, Name};
use serde_json::json;
use zeroize::Zeroizing;

use super::destroy;
use super::kinds::{self, Verb};
use super::restore;
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// Largest file that is sent; a server takes less.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What can be done with certificates.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix certificates list\n  helix certificates add --cert fullchain.pem --key privkey.pem\n  helix certificates trust > helix-ca.pem\n  helix certificates destroy www-example-com"
)]
pub(crate) struct CertificatesArgs {
    #[command(subcommand)]
    verb: CertificatesVerb,
}

#[derive(Debug, Subcommand)]
enum CertificatesVerb {
    #[command(flatten)]
    Any(Verb),
    Add(AddArgs),
    Trust(TrustArgs),
    #[command(visible_alias = "rm")]
    Destroy(destroy::DestroyArgs),
}

/// Serve the org's hosts with this certificate
///
/// All of its hosts that endpoints of the org have, at once and without a connection
/// lost; plain HTTP is led there. One of the same name is replaced, which is how a
/// certificate is renewed. The key is kept sealed and never shown again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix certificates add --cert fullchain.pem --key privkey.pem\n  helix certificates add --cert fullchain.pem --key privkey.pem --name shop --org acme"
)]
struct AddArgs {
    /// The certificate in PEM, followed by its issuers
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name, unique in the org; made of its first host otherwise
    #[arg(long, value_name = "NAME", value_parser = restore::name)]
    name: Option<Name>,
}

/// Print the certificate to trust for hosts without one of their own
///
/// Every host here can be reached over HTTPS: without a certificate that was added,
/// the installation vouches for it. Programs believe that once they trust this.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix certificates trust > helix-ca.pem\n  helix certificates trust --out helix-ca.pem\n  curl --cacert helix-ca.pem https://hello.localhost:8443"
)]
struct TrustArgs {
    /// Write it to this file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl CertificatesArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, CertificatesVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: CertificatesArgs) -> Result<u8> {
    match args.verb {
        CertificatesVerb::Any(verb) => kinds::run_verb(session, Kind::Certificate, verb).await,
        CertificatesVerb::Add(args) => add(session, args).await,
        CertificatesVerb::Trust(args) => trust(session, args).await,
        CertificatesVerb::Destroy(args) => destroy::run(session, Kind::Certificate, args).await,
    }
}

async fn add(session: &mut Session<'_>, args: AddArgs) -> Result<u8> {
    let scope = session.settings.org_scope();
    let certificate = read(session, &args.cert)?;
    let key = read(session, &args.key)?;
    let request = CertificateRequest {
        name: args.name,
        certificate: certificate.to_string(),
        key: key.to_string(),
    };
    let client = session.client()?;
    let receipt = client.add_certificate(&request, &scope).await?;
    let target = restore::target(&receipt);
    let added = client.one::<Certificate>(&target, &scope).await?;
    let document = json!({ "target": target, "receipt": receipt, "certificate": added.view });
    session.ui.warn(&receipt.warnings);
    session.ui.result(&document, |style| {
        let names = added.desired.names.join(", ");
        let end = added.desired.issued.as_ref().map(|it| it.not_after.to_string());
        let end = end.unwrap_or_default();
        let told = format!(
            "{} certificate {} serves {names} until {end}\n",
            style.tick(),
            style.bold(&target)
        );
        format!("{told}{}", render::next(&receipt.next, style))
    })?;
    Ok(0)
}

async fn trust(session: &mut Session<'_>, args: TrustArgs) -> Result<u8> {
    let authority = session.client()?.local_authority().await?;
    let Some(out) = args.out else {
        let pem = authority.certificate.trim_end().to_owned();
        session.ui.result(&authority, |_| pem)?;
        session.ui.note("programs are told with their own option, such as curl's --cacert");
        return Ok(0);
    };
    let path = session.settings.directory.join(&out);
    std::fs::write(&path, &authority.certificate).map_err(|error| {
        Failure::usage(
            format!("cannot write {}: {error}", out.display()),
            "name a file that can be made: `--out FILE`",
        )
    })?;
    let document = json!({ "file": path, "authority": authority });
    session.ui.result(&document, |style| {
        format!(
            "{} {} has the certificate to trust, sha256 {}",
            style.tick(),
            style.bold(&out.display().to_string()),
            authority.fingerprint
        )
    })?;
    Ok(0)
}

fn read(session: &Session<'_>, file: &Path) -> Result<Zeroizing<String>> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(
            format!("cannot read {}: {error}", file.display()),
            "name the files with `--cert FILE --key FILE`",
        )
    };
    let mut text = Zeroizing::new(String::new());
    let opened = File::open(session.settings.directory.join(file)).map_err(unreadable)?;
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
