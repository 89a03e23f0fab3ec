//! Bench: the control plane as a store. Durable writes and reads through the
//! API, beside those who keep such state elsewhere.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::etcd::Etcd;
use super::platform::Platform;
use super::postgres::Postgres;
use super::report::{Bound, Report, Row, Target};
use super::wrk::{self, Load};
use crate::output::say;

/// How many clients write at a time, each waiting for its answer.
const CLIENTS: [usize; 3] = [1, 16, 64];

/// Clients that read.
const READERS: usize = 64;

/// How long each figure is measured, and how long before that nothing counts.
const SECONDS: u64 = 8;
const WARM_UP_SECONDS: u64 = 2;

/// More apps than a run can make.
const APPS_MAX: u64 = 1_000_000_000;

/// Something that keeps what it is told.
trait Store {
    /// As the table calls it.
    fn name(&self) -> String;

    /// One new durable thing per request.
    fn write(&self, clients: usize, seconds: u64) -> Result<Load>;

    /// One thing by its name.
    fn read(&self, clients: usize, seconds: u64) -> Result<Load>;
}

/// Makes a store ready, given the `helix` binary to measure.
type Prepare = fn(&Path) -> Result<Box<dyn Store>>;

/// The first is what the others are compared with; one at a time is there.
const ALL: [Prepare; 3] = [
    |_| Ok(Box::new(Etcd::start()?)),
    |_| Ok(Box::new(Postgres::start()?)),
    |binary| Ok(Box::new(Helix::start(binary)?)),
];

/// Measures every store, one after the other.
///
/// # Errors
/// When one fails.
pub fn run(binary: &Path) -> Result<Report> {
    let mut rows = Vec::new();
    for prepare in ALL {
        let store = prepare(binary)?;
        say(&format!("measuring {}", store.name()));
        rows.push(Row { subject: store.name(), values: measure(store.as_ref())? });
    }
    Ok(Report {
        name: "control",
        title: "Writes and reads through the API",
        method: format!(
            "Each request is answered once its write is on the disk. etcd: `POST /v3/kv/put` of a \
             new key with 160 bytes, and `/v3/kv/range` of one, both through its HTTP API with the \
             load generator used for helix (`wrk`, one thread, on the same two cores). PostgreSQL: \
             one `INSERT` per transaction, one `SELECT` by key, `pgbench` with prepared statements \
             over a Unix socket, no HTTP. helix: `POST /v1/apps` with a new name, decided, chained \
             and answered with a receipt, and `GET /v1/apps/…` of one, desired, current and \
             conditions. {SECONDS} s each after {WARM_UP_SECONDS} s unmeasured."
        ),
        columns: vec![
            "writes/s, 1 client",
            "writes/s, 16",
            "writes/s, 64",
            "p99 ms at 64",
            "reads/s, 64",
            "p99 ms",
        ],
        targets: targets(&rows),
        rows,
        remarks: Vec::new(),
    })
}

/// Puts a server to all of it once.
///
/// # Errors
/// When it does not start or does not answer.
pub fn work(binary: &Path) -> Result<()> {
    measure(&Helix::start(binary)?).map(|_| ())
}

fn measure(store: &dyn Store) -> Result<Vec<f64>> {
    store.write(CLIENTS[1], WARM_UP_SECONDS)?;
    let mut values = Vec::new();
    let mut p99_ms = 0.0;
    for clients in CLIENTS {
        let load = store.write(clients, SECONDS)?;
        values.push(load.per_second);
        p99_ms = load.p99_ms;
    }
    values.push(p99_ms);
    store.read(READERS, WARM_UP_SECONDS)?;
    let load = store.read(READERS, SECONDS)?;
    values.extend([load.per_second, load.p99_ms]);
    Ok(values)
}

/// Holds for the order of [`ALL`] and of the columns.
fn targets(rows: &[Row]) -> Vec<Target> {
    let [etcd, _, helix] = rows else {
        return Vec::new();
    };
    let ratio = |column: usize| helix.values[column] / etcd.values[column];
    vec![
        Target {
            figure: "writes at 64 clients, as a multiple of etcd's",
            measured: ratio(2),
            bound: Bound::AtLeast(3.0),
        },
        Target {
            figure: "p99 of writes at 64 clients, as a multiple of etcd's",
            measured: ratio(3),
            bound: Bound::AtMost(1.0),
        },
        Target {
            figure: "reads at 64 clients, as a multiple of etcd's",
            measured: ratio(4),
            bound: Bound::AtLeast(8.0),
        },
    ]
}

impl Store for Etcd {
    fn name(&self) -> String {
        Etcd::name(self)
    }

    fn write(&self, clients: usize, seconds: u64) -> Result<Load> {
        // Keys and values are base64 in its JSON. Each run begins elsewhere.
        let script = format!(
            r#"local n = {}
local headers = {{ ["Content-Type"] = "application/json" }}
local value = string.rep("dmFs", 54)
request = function()
  n = n + 1
  local body = string.format('{{"key":"%012d","value":"%s"}}', n, value)
  return wrk.format("POST", "/v3/kv/put", headers, body)
end
"#,
            first_number()
        );
        wrk::run(&self.url(), &script, clients, seconds)
    }

    fn read(&self, clients: usize, seconds: u64) -> Result<Load> {
        let value = "dmFs".repeat(54);
        self.put(&format!(r#"{{"key":"d2FudGVk","value":"{value}"}}"#))?;
        let script = r#"wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"key":"d2FudGVk"}'
"#;
        wrk::run(&format!("{}/v3/kv/range", self.url()), script, clients, seconds)
    }
}

impl Store for Postgres {
    fn name(&self) -> String {
        Postgres::name(self)
    }

    fn write(&self, clients: usize, seconds: u64) -> Result<Load> {
        self.insert(clients, seconds)
    }

    fn read(&self, clients: usize, seconds: u64) -> Result<Load> {
        self.select(clients, seconds)
    }
}

/// The product, with its default storage.
struct Helix {
    platform: Platform,
}

impl Helix {
    fn start(binary: &Path) -> Result<Helix> {
        let platform = Platform::start(binary)?;
        // As an operator would who has that many apps; without it, and rightly,
        // nearly all is refused.
        let limits = json!({ "org": "default", "limits": { "apps": APPS_MAX } });
        platform.api.post("/v1/quotas", &limits).context("raise the quota of apps")?;
        Ok(Helix { platform })
    }
}

impl Store for Helix {
    fn name(&self) -> String {
        "helix".to_owned()
    }

    fn write(&self, clients: usize, seconds: u64) -> Result<Load> {
        let api = &self.platform.api;
        let script = format!(
            r#"local n = {}
local headers = {{ ["Content-Type"] = "application/json", ["Authorization"] = "Bearer {}" }}
request = function()
  n = n + 1
  local body = string.format('{{"name":"a%d"}}', n)
  return wrk.format("POST", "/v1/apps?org=default&project=default", headers, body)
end
"#,
            first_number(),
            api.token
        );
        wrk::run(&format!("http://{}", api.address), &script, clients, seconds)
    }

    fn read(&self, clients: usize, seconds: u64) -> Result<Load> {
        let api = &self.platform.api;
        let listed = api.get("/v1/apps?limit=1").context("find an app to read")?;
        let app = listed["items"][0]["id"].as_str().context("find an app to read")?;
        let script = format!("wrk.headers[\"Authorization\"] = \"Bearer {}\"\n", api.token);
        wrk::run(&format!("http://{}/v1/apps/{app}", api.address), &script, clients, seconds)
    }
}

/// Runs follow one another by more than a second, and none makes more than a
/// million requests in one: counting from the clock, no two use a number twice.
fn first_number() -> u128 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs() as u128 % 1_000_000 * 1_000_000
}
