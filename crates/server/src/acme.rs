//! Certificates that an authority issues by itself: ordering them over ACME (RFC 8555),
//! again before their end, and putting them where uploaded ones are.
//!
//! Start from [`tend`], which the replica that reconciles does. Which hosts are due is
//! `control`'s; what edges answer is in the state, so all of them know it. The
//! account's key is a sealed record of the installation.

mod hook;
mod http;
mod order;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use helix_control::acme::{Due, due, unneeded};
use helix_model::acme::Way;
use helix_model::{Certificate, Command, Id, Problem, Receipt, acme, destroy, host};
use instant_acme::{Account, AccountCredentials, NewAccount};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use self::http::Http;
use self::order::By;
use crate::engine::{Engine, Origin};
use crate::secrets::Vault;
use crate::{certificates, clock, entropy};

/// Who orders, in events.
const ACTOR: &str = "acme";

/// How long after a change it is looked for what is due, and how often without one.
const LOOK_AFTER: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Orders under way at once. Authorities limit how many are begun in a while.
const ORDERS_MAX: usize = 4;

/// What one order may take, all of it.
const ORDER_WAIT: Duration = Duration::from_secs(10 * 60);

/// What the ids of accounts' records begin with.
const ACCOUNTS: &str = "acme/";

/// Of what an authority says, what is kept.
const MESSAGE_CHARS_MAX: usize = 500;

/// Which authority issues certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The URL of its directory.
    pub directory: String,
    /// Where it writes to when something is wrong, such as `mailto:ops@example.com`.
    pub contact: Option<String>,
    /// How it comes to the edges to see who has a host; by the hook alone when `None`.
    pub way: Option<Way>,
    /// A program that makes records in DNS, which wildcards need: it is run as
    /// `PROGRAM set|remove NAME VALUE`.
    pub hook: Option<PathBuf>,
    /// Certificates (PEM) to trust when it is spoken to, in place of the system's.
    pub roots_pem: Option<Vec<u8>>,
}

/// Why an order came to nothing.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{}", told(.0))]
    Authority(#[from] instant_acme::Error),
    #[error("the authority has not found the host to be ours: {0}")]
    Invalid(String),
    #[error(
        "the authority does not come to see who has it in the way it is told to (`--acme-challenge`)"
    )]
    NoChallenge,
    #[error("nothing makes the records in DNS that it needs (`--acme-dns-hook`)")]
    NoHook,
    #[error(transparent)]
    Hook(#[from] hook::HookError),
    #[error("no edge is connected that could answer the authority")]
    NoEdge,
    #[error("the edge {0} does not answer the authority")]
    Silent(String),
    #[error("what was issued cannot be served: {0}")]
    Unusable(#[from] helix_certificate::CertificateError),
    #[error("it took too long")]
    Slow,
    #[error("the account's key cannot be kept: {0}")]
    Account(String),
    #[error(transparent)]
    Problem(#[from] Problem),
}

/// What an authority says, on one line.
fn told(error: &instant_acme::Error) -> String {
    match error {
        instant_acme::Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or_default();
            let kind = kind.rsplit(':').next().unwrap_or_default();
            let detail = problem.detail.as_deref().unwrap_or("it gives no reason");
            format!("the authority refuses ({kind}): {detail}")
        }
        other => format!("the authority cannot be asked: {other}"),
    }
}

/// What ordering needs.
struct Orders {
    engine: Engine,
    vault: Arc<Vault>,
    acme: Acme,
    http: Http,
    /// Made or loaded with the first order.
    account: Mutex<Option<Account>>,
}

/// Orders what is due, for as long as it is not dropped.
pub(crate) async fn tend(engine: Engine, vault: Arc<Vault>, acme: Option<Acme>) {
    let Some(acme) = acme else { return std::future::pending().await };
    let http = match Http::new(acme.roots_pem.as_deref()) {
        Ok(http) => http,
        Err(error) => {
            tracing::error!(%error, "certificates cannot be ordered: no HTTP client");
            return std::future::pending().await;
        }
    };
    let orders = Orders { engine, vault, acme, http, account: Mutex::default() };
    let mut position = orders.engine.position();
    loop {
        let began = Instant::now();
        orders.once().await;
        let _ = timeout(LOOK_EVERY, position.changed()).await;
        position.mark_unchanged();
        sleep(LOOK_AFTER.saturating_sub(began.elapsed())).await;
    }
}

impl Orders {
    /// Orders what is due, some at a time, and gives up what nobody needs.
    async fn once(&self) {
        let state = self.engine.state();
        let now = clock::now();
        let wildcards = self.acme.hook.is_some();
        let (mut due, unneeded) = (due(&state, now, wildcards), unneeded(&state, now));
        drop(state);
        for certificate in unneeded {
            let target = certificate.any();
            let destroy = destroy::Destroy { target, cascade: false };
            drop(self.submit(Command::Destroy(destroy)).await);
        }
        due.truncate(ORDERS_MAX);
        join_all(due.iter().map(|due| self.order(due))).await;
    }

    async fn order(&self, due: &Due) {
        let ask = acme::Ask { org: due.org, host: due.host.clone() };
        let asked = self.submit(Command::AskForCertificate(ask)).await;
        let id = asked.ok().and_then(|receipt| receipt.subject?.id.typed::<Certificate>());
        let Some(certificate) = id else { return };
        let ordered = timeout(ORDER_WAIT, self.issue(due, certificate)).await;
        let Err(error) = ordered.unwrap_or(Err(OrderError::Slow)) else {
            tracing::info!(host = due.host, "a certificate was issued");
            return;
        };
        let message = sentence(&error.to_string());
        tracing::warn!(host = due.host, error = message, "a certificate was not issued");
        let retry_after = self.http.retry_after();
        let fail = acme::Fail { certificate, message, retry_after };
        drop(self.submit(Command::FailOrder(fail)).await);
    }

    /// Has a certificate issued and takes it in.
    async fn issue(&self, due: &Due, certificate: Id<Certificate>) -> Result<(), OrderError> {
        let account = self.account().await?;
        let to = order::To { certificate, host: &due.host, by: self.by(&due.host)? };
        let (chain, key) = order::place(&self.engine, &account, to).await?;
        let now = clock::now().0;
        let upload = helix_certificate::read(chain.as_bytes(), key.as_bytes(), now)?;
        let fingerprint = &upload.facts.fingerprint;
        let record = certificates::seal(&self.vault, due.org, fingerprint, &upload.bundle).await?;
        let issued = certificates::issued(upload.facts, record);
        let before = self.engine.state().certificates.get(certificate).cloned();
        let issue = acme::Issue { certificate, issued };
        self.submit(Command::IssueCertificate(Box::new(issue))).await?;
        let before = before.and_then(|it| Some(it.spec.issued?.record));
        for record in [Some(record), before].into_iter().flatten() {
            let state = self.engine.state();
            certificates::remove_unused(&self.vault, &state, due.org, record).await;
        }
        Ok(())
    }

    /// How the authority is shown whose a host is.
    fn by(&self, host: &str) -> Result<By<'_>, OrderError> {
        match (self.acme.way, &self.acme.hook) {
            (Some(way), _) if !host::is_wildcard(host) => Ok(By::Edges(way)),
            (_, Some(path)) => Ok(By::Hook(path)),
            (_, None) => Err(OrderError::NoHook),
        }
    }

    /// The account with the authority, made once and kept sealed.
    async fn account(&self) -> Result<Account, OrderError> {
        let mut kept = self.account.lock().await;
        if let Some(account) = &*kept {
            return Ok(account.clone());
        }
        let directory = &self.acme.directory;
        let (name, bound_to) = (account_name(directory), format!("helix-acme-v1|{directory}"));
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let sealed = self.vault.get(&name, bound_to.as_bytes()).await?;
        let account = match sealed {
            Some(sealed) => {
                let unreadable = |error: serde_json::Error| OrderError::Account(error.to_string());
                let known: AccountCredentials =
                    serde_json::from_slice(&sealed).map_err(unreadable)?;
                builder.from_credentials(known).await?
            }
            None => {
                let contact: Vec<&str> = self.acme.contact.iter().map(String::as_str).collect();
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let (account, made) = builder.create(&new, directory.clone(), None).await?;
                let unwritable = |error: serde_json::Error| OrderError::Account(error.to_string());
                let text = zeroize::Zeroizing::new(serde_json::to_vec(&made).map_err(unwritable)?);
                self.vault.put(&name, &text, bound_to.as_bytes()).await?;
                account
            }
        };
        *kept = Some(account.clone());
        Ok(account)
    }

    async fn submit(&self, command: Command) -> Result<Receipt, Problem> {
        submit(&self.engine, command).await
    }
}

async fn submit(engine: &Engine, command: Command) -> Result<Receipt, Problem> {
    let origin = Origin::system(ACTOR, entropy::request_id());
    let submitted = engine.submit(command, origin).await;
    submitted.inspect_err(|problem| tracing::warn!(%problem, "a step of an order was refused"))
}

/// One record per authority: who changes it and back goes on with the account they had.
fn account_name(directory: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, directory.as_bytes());
    let hex = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("{ACCOUNTS}{}", hex.collect::<String>())
}

/// A message as a sentence, cut to a readable length.
fn sentence(text: &str) -> String {
    let plain: String =
        text.chars().filter(|it| !it.is_control()).take(MESSAGE_CHARS_MAX).collect();
    let mut letters = plain.trim_end_matches('.').chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
