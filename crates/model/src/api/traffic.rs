//! What goes through endpoints, as the API tells it.

use serde::{Deserialize, Serialize};

use crate::traffic::Told;
use crate::{AnyId, Timestamp};

/// `GET /v1/traffic`, and with `follow=true` a line of its stream: what went through
/// endpoints in an interval, at all edges together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrafficLine {
    /// `traffic`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The end of the interval.
    pub ts: Timestamp,
    pub interval_ms: u64,
    /// How many edges have told.
    pub edges: usize,
    /// The busiest first.
    pub items: Vec<EndpointTraffic>,
    /// How many more endpoints there are than `limit`.
    #[serde(default)]
    pub omitted: usize,
}

/// What went through one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointTraffic {
    pub endpoint: AnyId,
    pub path: String,
    pub protocol: String,
    /// Requests, connections or sessions under way at the end of the interval.
    pub open: u64,
    /// That began.
    pub per_second: f64,
    /// Answered with 5xx, refused or broken off.
    pub errors_per_second: f64,
    pub received_bytes_per_second: f64,
    pub sent_bytes_per_second: f64,
    /// Half of what ended took no longer; absent when nothing ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// `GET /v1/traffic/counters`: what went through since each edge began to count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrafficCounters {
    pub items: Vec<EdgeTraffic>,
}

/// What one edge has counted, of endpoints that something has gone through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EdgeTraffic {
    pub edge: AnyId,
    pub endpoints: Vec<Told>,
}
