//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use helix_model::Timestamp;

/// Now; the epoch itself should the clock stand before it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
