//! Bodies of what makes and destroys orgs, projects, apps and envs, and of what
//! says how much they may have and have used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quota::{self, Dimension};
use crate::receipt::Affected;
use crate::usage::{Amount, Mark};
use crate::{AnyId, Name, Timestamp};

/// `POST /v1/orgs|projects|apps|envs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub name: Name,
    /// What it is made in, by id or path; what the query's `org`, `project` and
    /// `app` name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// The query of `DELETE /v1/orgs|projects|apps|envs/{ref}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DestroyQuery {
    /// Also when there are apps in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cascade: bool,
    /// Refuse unless it is still of this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/quotas`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaRequest {
    /// Whose limits; those of the installation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// New limits; `null` goes back to what holds without one.
    #[schema(value_type = BTreeMap<String, Option<u64>>)]
    pub limits: BTreeMap<Dimension, Option<u64>>,
}

/// `GET /v1/quotas`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QuotaReport {
    /// Absent when it is about the installation's own limits.
    pub org: Option<Affected>,
    pub items: Vec<quota::Line>,
    pub position: u64,
}

/// `GET /v1/usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsageReport {
    /// The edges of what was counted: whole hours, whole UTC days further back.
    pub since: Timestamp,
    pub until: Timestamp,
    pub items: Vec<EnvUsage>,
    pub total: Used,
    /// Volumes of the orgs in question; none where it is narrowed further.
    #[serde(default)]
    pub volumes: Vec<VolumeUsage>,
    /// Envs that had an IPv4 address of their own.
    #[serde(default)]
    pub ipv4: Vec<Ipv4Usage>,
    pub position: u64,
}

/// For how long an env had an IPv4 address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ipv4Usage {
    pub env: AnyId,
    pub path: String,
    /// It does not exist any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroyed: bool,
    pub ipv4_ms: u64,
    pub ipv4_hours: f64,
    /// Where the events that say so begin: `env.ipv4_changed` of the env.
    pub first_position: u64,
}

/// What one volume took: its size, for as long as it was there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeUsage {
    pub volume: AnyId,
    pub path: String,
    /// It does not exist any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroyed: bool,
    pub volume_mib_ms: u64,
    pub volume_gib_hours: f64,
}

/// What one env used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnvUsage {
    pub env: AnyId,
    pub path: String,
    /// It does not exist any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroyed: bool,
    #[serde(flatten)]
    pub used: Used,
}

/// An amount, exact in whole milliseconds and in the units of bills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Used {
    pub instance_ms: u64,
    pub memory_mib_ms: u64,
    pub instance_seconds: f64,
    pub memory_gib_seconds: f64,
}

/// `GET /v1/usage/intervals`: what a total is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsageIntervals {
    pub since: Timestamp,
    pub until: Timestamp,
    /// By the position at which each began.
    pub items: Vec<UsageInterval>,
    /// The sum of the items, which is what `GET /v1/usage` says.
    pub total: Used,
    pub position: u64,
}

/// A stretch of time in which one instance ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsageInterval {
    pub env: AnyId,
    pub instance: AnyId,
    pub path: String,
    /// Its limit and the overhead.
    pub memory_mib: u64,
    /// The event with which it began.
    pub from: Mark,
    /// The event with which it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Mark>,
    /// What of it is between `since` and `until`.
    #[serde(flatten)]
    pub used: Used,
}

impl From<Amount> for Used {
    fn from(amount: Amount) -> Used {
        Used {
            instance_ms: amount.instance_ms,
            memory_mib_ms: amount.memory_mib_ms,
            instance_seconds: thousandths(amount.instance_ms),
            memory_gib_seconds: thousandths(amount.memory_mib_ms) / 1024.0,
        }
    }
}

impl VolumeUsage {
    /// A volume's amount in both units.
    pub fn new(volume: AnyId, path: String, destroyed: bool, volume_mib_ms: u64) -> VolumeUsage {
        let volume_gib_hours = thousandths(volume_mib_ms) / 1024.0 / 3600.0;
        VolumeUsage { volume, path, destroyed, volume_mib_ms, volume_gib_hours }
    }
}

impl Ipv4Usage {
    /// An env's time in both units.
    pub fn new(
        env: AnyId,
        path: String,
        destroyed: bool,
        (ipv4_ms, first_position): (u64, u64),
    ) -> Ipv4Usage {
        let ipv4_hours = thousandths(ipv4_ms) / 3600.0;
        Ipv4Usage { env, path, destroyed, ipv4_ms, ipv4_hours, first_position }
    }
}

/// Beyond 2^53 milliseconds the last digits are lost; the whole numbers beside
/// keep them.
fn thousandths(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}
