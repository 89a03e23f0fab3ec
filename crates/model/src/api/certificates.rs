//! Bodies of certificates: what an org brings, and what clients are to trust.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Name, Timestamp};

/// `POST /v1/certificates`.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// Made of the first host when absent. One that has the name already is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// In PEM: the host's certificate, then each issuer.
    pub certificate: String,
    /// In PEM. Kept sealed and never shown.
    pub key: String,
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateRequest({:?}, key hidden)", self.name)
    }
}

/// `GET /v1/authority`: who vouches for hosts without a certificate of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuthorityReport {
    /// What clients are to trust, in PEM.
    pub certificate: String,
    /// Lower-case hex sha256 of it.
    pub fingerprint: String,
    pub not_after: Timestamp,
    pub position: u64,
}
