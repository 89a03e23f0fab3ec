//! Bodies of domains: which one is an org's own.

use serde::{Deserialize, Serialize};

/// `POST /v1/domains`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainRequest {
    /// In ASCII, such as `example.com`; it stands for every name below it as well.
    pub domain: String,
}
