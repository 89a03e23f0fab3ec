//! The load generator of the API benches: Debian's `wrk`, the same for every
//! subject, so that what it costs itself is the same for all.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, process};

/// What one run measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub per_second: f64,
    pub p99_ms: f64,
    /// Not a number unless the script tells it, see [`TELL_P999`].
    pub p999_ms: f64,
}

/// A script's end that has `wrk` tell one more percentile.
pub const TELL_P999: &str = "done = function(summary, latency, requests)\n  io.write(string.format(\"99.9%%   \
     %.3fms\\n\", latency:percentile(99.9) / 1000))\nend\n";

/// Sends the requests that `script` (Lua) makes over `connections` kept-alive
/// connections, one request at a time on each.
///
/// # Errors
/// When `wrk` fails, or an answer was not a success: refusals are fast and would
/// look like throughput.
pub fn run(url: &str, script: &str, connections: usize, seconds: u64) -> Result<Load> {
    let directory = tempfile::tempdir().context("make a directory for a script")?;
    let path = directory.path().join("load.lua");
    fs::write(&path, script).context("write a script")?;
    let said = process::capture(&mut command(&path, url, connections, seconds)?)?;
    understand(&said).with_context(|| format!("understand what wrk said of {url}:\n{said}"))
}

fn command(script: &Path, url: &str, connections: usize, seconds: u64) -> Result<Command> {
    let wrk = packages::find("wrk")?.context("find wrk")?;
    let mut command = Command::new(wrk);
    // One thread: the generator shares two cores with what it measures.
    command
        .args(["-t1", "--latency", "--timeout", "10s"])
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"))
        .arg("-s")
        .arg(script)
        .arg(url);
    Ok(command)
}

fn understand(said: &str) -> Result<Load> {
    if let Some(line) = said.lines().find(|line| line.contains("Non-2xx")) {
        bail!("not every answer was a success: {}", line.trim());
    }
    if let Some(line) = said.lines().find(|line| line.contains("Socket errors")) {
        bail!("not every request was answered: {}", line.trim());
    }
    let after =
        |label: &str| said.lines().find_map(|line| line.trim().strip_prefix(label).map(str::trim));
    let per_second = after("Requests/sec:").context("find the rate")?;
    Ok(Load {
        per_second: per_second.parse().context("read the rate")?,
        p99_ms: milliseconds(after("99%").context("find the latency")?)?,
        p999_ms: after("99.9%").map_or(Ok(f64::NAN), milliseconds)?,
    })
}

/// `wrk` writes `950.00us`, `12.34ms` or `1.20s`.
fn milliseconds(text: &str) -> Result<f64> {
    let scales = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    let found = scales.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * scale)
    });
    found.with_context(|| format!("read the latency `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 4s test @ http://127.0.0.1:1\n  Latency Distribution\n     \
                        50%   19.88ms\n     99%  650.06us\n  11700 requests in 4.05s, 4.84MB \
                        read\nRequests/sec:   2891.39\nTransfer/sec:      1.20MB\n";

    #[test]
    fn rate_and_latency_are_read() {
        let load = understand(SAID).unwrap();
        assert!((load.per_second - 2891.39).abs() < 1e-6, "{load:?}");
        assert!((load.p99_ms - 0.65006).abs() < 1e-6, "{load:?}");
    }

    #[test]
    fn refusals_are_no_throughput() {
        let said = format!("{SAID}  Non-2xx or 3xx responses: 3\n");
        let error = understand(&said).unwrap_err().to_string();
        assert!(error.contains("responses: 3"), "{error}");
    }
}
