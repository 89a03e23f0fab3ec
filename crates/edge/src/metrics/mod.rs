//! Metrics for Prometheus: `text` writes them down, `serve` answers who scrapes.

mod serve;
mod text;

pub(crate) use serve::accept;
