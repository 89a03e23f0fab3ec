//! Problems: what can go wrong, as a contract.
//!
//! [`Code`] is the closed table of codes with everything that follows from one:
//! HTTP status, exit code, whether a retry may help, and the page `helix
//! explain` shows. [`Problem`] is one occurrence, sent as
//! `application/problem+json` (RFC 9457).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quota::Excess;

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:literal, $exit:literal, $retryable:literal,
       $title:literal, $hint:literal;)*) => {
        /// A stable problem code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $title] #[serde(rename = $code)] $variant,)*
        }

        impl Code {
            /// Every code, for `helix explain` and the tests of the contract.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code as scripts see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// The HTTP status it is sent with.
            pub const fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// The exit code of a command that ends with it.
            pub const fn exit_code(self) -> u8 {
                match self { $(Code::$variant => $exit,)* }
            }

            /// Whether the same request may succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Code::$variant => $retryable,)* }
            }

            /// What it means, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// What to do about it in general.
            pub const fn hint(self) -> &'static str {
                match self { $(Code::$variant => $hint,)* }
            }
        }
    };
}

codes! {
    InvalidArgument = "invalid_argument", 400, 2, false,
        "The request has a value that cannot be used", "see the details, correct it and try again";
    ManifestInvalid = "manifest_invalid", 400, 2, false,
        "The manifest has mistakes", "fix the lines named and run `helix deploy` again";
    NotSupportedYet = "not_supported_yet", 501, 2, false,
        "This does not exist yet", "do what the message proposes instead";
    Unauthorized = "unauthorized", 401, 3, false,
        "No valid token was sent", "log in with `helix auth login`, start `helix up` here, or set HELIX_URL and HELIX_TOKEN";
    Forbidden = "forbidden", 403, 3, false,
        "The token does not allow this", "use a token whose scopes allow it";
    AccessDenied = "access_denied", 403, 3, false,
        "The proof of identity was refused", "check the name and the password, or log in again: `helix auth login`";
    AuthorizationPending = "authorization_pending", 400, 6, true,
        "Nobody has approved the login yet", "open the address shown, log in and approve the code";
    SlowDown = "slow_down", 400, 6, true,
        "The login was asked about too often", "wait as long as `retry_after_seconds` says between two questions";
    ExpiredToken = "expired_token", 400, 3, false,
        "The device code is not valid any more", "begin again: `helix auth login`";
    NotFound = "not_found", 404, 4, false,
        "There is no such thing", "list what there is, for example with `helix apps list`";
    MethodNotAllowed = "method_not_allowed", 405, 2, false,
        "The path is not for this method", "see which methods the route has";
    Conflict = "conflict", 409, 5, false,
        "It contradicts what there is", "look at the resource named and decide again";
    NameTaken = "name_taken", 409, 5, false,
        "The name is in use", "choose another name";
    HostTaken = "host_taken", 409, 5, false,
        "The host name belongs to another endpoint or a tunnel", "choose another host in [[endpoints]]";
    VersionConflict = "version_conflict", 409, 5, false,
        "It was changed since you looked", "look at it again, and repeat the change with its new version if it still fits";
    NotEmpty = "not_empty", 409, 5, false,
        "There is still something in it", "destroy what is in it first, or destroy all of it with `--cascade`";
    DomainUnproven = "domain_unproven", 412, 5, false,
        "The domain is not known to be the org's", "add it with `helix domains add NAME`, make the TXT record that this prints, and try again";
    DomainTaken = "domain_taken", 409, 5, false,
        "Another org has proven the domain", "use another, or have the operator settle whose it is";
    DomainInUse = "domain_in_use", 409, 5, false,
        "Endpoints or tunnels have hosts of the domain", "destroy their envs, deploy them without these hosts, or delete the tunnels";
    PortDenied = "port_denied", 412, 5, false,
        "The installation denies endpoints this port", "listen on another port, or have the operator take it off the list: `--deny-ports`";
    Ipv4NotEnabled = "ipv4_not_enabled", 412, 5, false,
        "The env has no IPv4 address of its own", "ask for one with `helix env ipv4 enable`, or leave out `ipv4` of the endpoint";
    Ipv4InUse = "ipv4_in_use", 409, 5, false,
        "Endpoints listen on the env's IPv4 address", "deploy them without `ipv4`, or unexpose them, and try again";
    Ipv4PoolExhausted = "ipv4_pool_exhausted", 409, 5, true,
        "There is no IPv4 address to be had", "the operator gives addresses to edges with `--addresses`";
    Ipv6PoolExhausted = "ipv6_pool_exhausted", 409, 5, true,
        "There is no IPv6 address to be had", "the operator gives addresses to edges with `--addresses`";
    TunnelNameTaken = "tunnel_name_taken", 409, 5, false,
        "The name of the tunnel is another's", "ask for another name, or leave it out and get a random one";
    TunnelDisabled = "tunnel_disabled", 412, 5, false,
        "The tunnel was taken out of use", "ask who may: an admin of the org, or the operator, with `helix tunnels enable NAME`";
    AnonymousTunnel = "anonymous_tunnel", 403, 3, false,
        "Without a login a tunnel is had as it comes", "leave out what was asked for of it, or log in: `helix auth login`";
    TunnelPortsExhausted = "tunnel_ports_exhausted", 409, 5, true,
        "There is no port to be had for the tunnel", "delete a tunnel that is not needed, or have the operator give more ports: `--tunnel-ports`";
    NoEdgeForTunnels = "no_edge_for_tunnels", 503, 6, true,
        "No edge that takes agents is connected", "`helix edges list` shows the edges; start one with `helix edge`, or `helix up` again";
    VolumeInUse = "volume_in_use", 409, 5, false,
        "The volume is attached", "deploy a release that does not mount it, or destroy the env that has it";
    VolumeReplicaLimit = "volume_replica_limit", 409, 5, false,
        "A process with a volume has one instance", "scale it to 1, or take the volume out of the manifest";
    SnapshotInProgress = "snapshot_in_progress", 409, 5, true,
        "A snapshot of the volume is being taken", "wait until it is there, and try again";
    BeingDestroyed = "being_destroyed", 409, 5, true,
        "It is being destroyed", "wait until it is gone; the name can be used again then";
    QuotaExceeded = "quota_exceeded", 409, 5, false,
        "The org has used up what it may have of this", "remove what is not needed, or ask the operator for more: `helix quotas` shows use and limits";
    IdempotencyKeyReuse = "idempotency_key_reuse", 409, 5, false,
        "The idempotency key was used for another request", "use a fresh key for a new request";
    PreconditionFailed = "precondition_failed", 412, 5, false,
        "It is not in the state this needs", "see the message for the state it is in";
    SecretsMissing = "secrets_missing", 412, 5, false,
        "The release needs secrets and the env has none", "set them with `helix secrets set KEY`, or say that it needs none: `helix secrets confirm --none`";
    ReleasePolicy = "release_policy", 412, 5, false,
        "The org's policy does not allow this release", "use an image that the policy allows, or have an admin change it: `helix policy`";
    PayloadTooLarge = "payload_too_large", 413, 2, false,
        "The request is larger than allowed", "send less at once";
    RateLimited = "rate_limited", 429, 6, true,
        "Too many requests", "wait as long as `retry_after_seconds` says";
    Unavailable = "unavailable", 503, 6, true,
        "It cannot be reached right now", "try again; `helix doctor` says what is missing";
    TimedOut = "timed_out", 504, 6, true,
        "It did not happen in the time given", "it goes on by itself: `helix status` shows how far it is";
    WorkloadFailed = "workload_failed", 422, 1, false,
        "The workload failed", "`helix describe` and `helix logs` of what is named say why";
    ImageNotFound = "image_not_found", 422, 1, false,
        "The registry has no such image", "check the reference and that it was pushed";
    ImageUnusable = "image_unusable", 422, 1, false,
        "The image cannot be used", "see the message for what is wrong with it";
    RegistryUnavailable = "registry_unavailable", 503, 6, true,
        "The registry cannot be reached", "check the address and try again";
    BuildFailed = "build_failed", 422, 1, false,
        "The folder could not be built", "fix what the output names and run it again";
    Internal = "internal", 500, 7, true,
        "Something is broken on our side", "try again; if it stays, report it with the request id";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One occurrence of something going wrong.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{detail}")]
pub struct Problem {
    pub code: Code,
    pub title: String,
    pub status: u16,
    /// What failed and why, for this occurrence.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    pub retryable: bool,
    /// Set by the server on the way out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// The fields at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FieldProblem>,
    /// With `quota_exceeded`: what is limited, and by how much it is too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Excess>)]
    pub quota: Option<Box<Excess>>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldProblem {
    pub field: String,
    pub message: String,
}

impl Problem {
    /// An occurrence with the code's general hint.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            code,
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            hint: code.hint().to_owned(),
            retryable: code.retryable(),
            request_id: String::new(),
            retry_after_seconds: None,
            details: Vec::new(),
            quota: None,
        }
    }

    /// The same with a hint that fits this occurrence better.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = hint.into();
        self
    }

    /// The same naming a field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, message: impl Into<String>) -> Problem {
        self.details.push(FieldProblem { field: field.into(), message: message.into() });
        self
    }

    /// Nothing of this kind goes by this reference.
    pub fn not_found(kind: crate::Kind, reference: &str) -> Problem {
        Problem::new(Code::NotFound, format!("there is no {kind} `{reference}`"))
            .hint(format!("`helix {} list` shows what there is", kind.plural()))
    }
}

impl From<crate::manifest::ManifestError> for Problem {
    fn from(error: crate::manifest::ManifestError) -> Problem {
        let mut problem = Problem::new(Code::ManifestInvalid, error.to_string());
        for flaw in &error.flaws {
            let at = format!("line {}, column {}: {}", flaw.line, flaw.column, flaw.message);
            problem = problem.field(flaw.field.clone(), at);
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_one_of_the_contract() {
        for code in Code::ALL {
            assert!((1..=7).contains(&code.exit_code()), "{code}");
            assert!((400..=599).contains(&code.status()), "{code}");
        }
    }
}
