//! Who may what: users, members, tokens, logging in, the audit trail.

use std::time::Duration;

use helix_model::Receipt;
use helix_model::api::access::{
    CreateUserRequest, DeviceStart, DeviceStartRequest, DeviceTokenRequest, MemberRequest,
    OperatorRequest, PasswordRequest, SetupReply, SetupRequest, TokenReply, TokenRequest, WhoAmI,
};
use helix_model::api::{EndReason, StreamEnd};
use helix_model::audit::{AuditLine, AuditPage, Decision};
use helix_model::reference::Scope;
use reqwest::Method;
use serde::Serialize;

use crate::lines::{Line, Lines};
use crate::{Client, Result};

/// Choosing a password takes the server a while on purpose.
const PASSWORD_TIMEOUT: Duration = Duration::from_secs(60);

/// Which lines of the audit trail.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// The name of a user, token, machine or reconciler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// Also what the platform did by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// The audit trail, the oldest line first.
pub struct AuditStream {
    client: Client,
    lines: Lines,
}

impl AuditStream {
    /// The next line; `None` once all were sent. A trail that breaks off must not
    /// be taken for a whole one.
    pub async fn next(&mut self) -> Result<Option<AuditLine>> {
        loop {
            match self.lines.next().await? {
                Some(Line::Item(line)) => return Ok(Some(line)),
                Some(Line::Heartbeat { .. }) => {}
                Some(Line::End(StreamEnd { reason: EndReason::Complete, .. })) => return Ok(None),
                Some(Line::End(_)) | None => {
                    return Err(self.client.malformed("the audit trail broke off"));
                }
            }
        }
    }
}

impl Client {
    /// Who the token is and what it may.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        self.read(self.request(Method::GET, &["v1", "auth", "whoami"])?).await
    }

    /// Begins a login; `client` is what the person is shown.
    pub async fn begin_login(&self, client: &str) -> Result<DeviceStart> {
        let request = self.request(Method::POST, &["v1", "auth", "device", "start"])?;
        self.read(request.json(&DeviceStartRequest { client: client.to_owned() })).await
    }

    /// What has become of a login.
    pub async fn poll_login(&self, device_code: &str) -> Result<TokenReply> {
        let request = self.request(Method::POST, &["v1", "auth", "device", "token"])?;
        self.read(request.json(&DeviceTokenRequest { device_code: device_code.to_owned() })).await
    }

    /// Chooses a password with a setup code.
    pub async fn choose_password(&self, request: &SetupRequest) -> Result<Receipt> {
        let asked = self.request(Method::POST, &["v1", "auth", "setup"])?.json(request);
        self.read_within(asked, PASSWORD_TIMEOUT).await
    }

    /// Changes one's own password.
    pub async fn change_password(&self, request: &PasswordRequest) -> Result<Receipt> {
        let asked = self.request(Method::POST, &["v1", "auth", "password"])?.json(request);
        self.read_within(asked, PASSWORD_TIMEOUT).await
    }

    /// Makes a user and a code to choose a password with.
    pub async fn create_user(&self, request: &CreateUserRequest) -> Result<SetupReply> {
        self.change_for(Method::POST, &["v1", "users"], |asked| asked.json(request)).await
    }

    /// A fresh setup code.
    pub async fn new_setup_code(&self, user: &str) -> Result<SetupReply> {
        self.read(self.request(Method::POST, &["v1", "users", user, "setup"])?).await
    }

    /// Lets a user run the installation, or no longer.
    pub async fn set_operator(&self, user: &str, operator: bool) -> Result<Receipt> {
        let segments = ["v1", "users", user, "operator"];
        self.change(&segments, &Scope::default(), &OperatorRequest { operator }).await
    }

    /// Removes a user.
    pub async fn remove_user(&self, user: &str) -> Result<Receipt> {
        self.remove(&["v1", "users", user], &Scope::default()).await
    }

    /// Makes a user a member, or gives a member another role.
    pub async fn set_member(&self, request: &MemberRequest) -> Result<Receipt> {
        self.change(&["v1", "members"], &Scope::default(), request).await
    }

    /// Takes a member out of an org.
    pub async fn remove_member(&self, member: &str, scope: &Scope) -> Result<Receipt> {
        self.remove(&["v1", "members", member], scope).await
    }

    /// Makes a token. Its text is in the reply and nowhere else.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenReply> {
        self.change_for(Method::POST, &["v1", "tokens"], |asked| asked.json(request)).await
    }

    /// Ends a token; `self` is the one this client sends.
    pub async fn revoke_token(&self, token: &str, scope: &Scope) -> Result<Receipt> {
        self.remove(&["v1", "tokens", token], scope).await
    }

    /// A page of the audit trail, the newest line first.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage> {
        self.read(self.request(Method::GET, &["v1", "audit"])?.query(query)).await
    }

    /// The whole audit trail, the oldest line first.
    pub async fn export_audit(&self, query: &AuditQuery) -> Result<AuditStream> {
        let request = self.request(Method::GET, &["v1", "audit", "export"])?;
        let response = self.send(request.query(query)).await?;
        Ok(AuditStream { client: self.clone(), lines: Lines::new(self.clone(), response) })
    }

    async fn remove(&self, segments: &[&str], scope: &Scope) -> Result<Receipt> {
        self.change_by(Method::DELETE, segments, |asked| asked.query(scope)).await
    }
}
