//! The bodies of the API about who may what: users, members, tokens, logging in.

use serde::{Deserialize, Serialize};

use crate::{Actor, Name, Permissions, Receipt, Role, Timestamp};

/// `POST /v1/users`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    pub name: Name,
    #[serde(default)]
    pub operator: bool,
    /// Kept apart from everything else and encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// `POST /v1/users` and `POST /v1/users/{user}/setup`: the code with which the
/// user chooses a password. It is shown this once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SetupReply {
    /// Absent when the user was there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    pub setup_code: String,
    /// Where to use it, below the API's address.
    pub setup_path: String,
    pub expires_at: Timestamp,
}

/// `POST /v1/auth/setup`.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    pub user: Name,
    pub setup_code: String,
    pub password: String,
}

/// `POST /v1/auth/password`.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    pub current: String,
    pub new: String,
}

/// `POST /v1/users/{user}/operator`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    pub operator: bool,
}

/// `POST /v1/members`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    pub org: Name,
    pub user: Name,
    pub role: Role,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    pub name: Name,
    /// A service token of `org`; otherwise a personal one of the caller.
    #[serde(default)]
    pub service: bool,
    /// Of a service token: whose it is. Of a personal one: the only org it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Name>,
    /// What it is for; a personal token may do all its user may when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Permissions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
}

/// A token that was made. Its text is shown this once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenReply {
    pub receipt: Receipt,
    pub token: String,
    pub expires_at: Timestamp,
}

/// `POST /v1/auth/device/start`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceStartRequest {
    /// What asks, such as the name of the machine; the person is shown it.
    #[serde(default)]
    pub client: String,
}

/// How to go on with a login.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceStart {
    pub device_code: String,
    pub user_code: String,
    /// Where the person goes, below the API's address.
    pub verification_path: String,
    pub expires_in_seconds: u64,
    pub poll_interval_seconds: u64,
}

/// `POST /v1/auth/device/token`.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceTokenRequest {
    pub device_code: String,
}

/// `GET /v1/auth/whoami`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhoAmI {
    pub actor: Actor,
    /// The token that was sent; absent for the installation's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What holds in every org and for the installation.
    pub everywhere: Permissions,
    pub orgs: Vec<OrgAccess>,
}

/// What a caller may in an org.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrgAccess {
    pub org: Name,
    pub scopes: Permissions,
}
