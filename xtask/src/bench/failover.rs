//! Bench: the one that leads is killed with -9 while somebody writes.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::etcd_cluster::EtcdCluster;
use super::http::Api;
use super::measure::Samples;
use super::postgres::Postgres;
use super::report::{Bound, Report, Row, Target};
use super::server::{Place, Server};
use crate::output::say;

/// Kills of each subject.
const KILLS: usize = 5;

/// Replicas of the server: enough that one can be lost.
const REPLICAS: usize = 2;

/// Nothing takes this long.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two tries of a writer.
const PAUSE: Duration = Duration::from_millis(5);

/// What is promised of a takeover.
const TAKEOVER_MS: f64 = 5000.0;

/// Measures both.
///
/// # Errors
/// When one does not come back.
pub fn run(binary: &Path) -> Result<Report> {
    let rows = vec![etcd()?, helix(binary)?];
    let at = |column: usize| rows[1].values[column];
    let target = |figure, measured, bound| Target { figure, measured, bound };
    let targets = vec![
        target("kill to the next accepted write, slowest, ms", at(1), Bound::AtMost(TAKEOVER_MS)),
        target("kill to the next step of a reconciler, slowest, ms", at(3), {
            Bound::AtMost(TAKEOVER_MS)
        }),
    ];
    Ok(Report {
        name: "failover",
        title: "Losing the replica that leads",
        method: format!(
            "{KILLS} times `kill -9` of the leader while a client writes every few milliseconds \
             and goes to the next server when one does not answer. helix: {REPLICAS} `helix \
             server` on one PostgreSQL; any of them takes writes, the leader is the one that \
             reconciles. A step of a reconciler is what ends the destruction of an app that was \
             asked for after the kill. etcd: three members, the leader of their election is \
             killed; it has nothing that reconciles, and the two columns are the same. After each \
             kill the lost one is started again and the next is killed once it is back."
        ),
        columns: vec!["next write p50 ms", "slowest ms", "next step p50 ms", "slowest ms"],
        rows,
        remarks: Vec::new(),
        targets,
    })
}

fn figures(writes: Vec<Duration>, steps: Vec<Duration>) -> Vec<f64> {
    let ms = |samples: &Samples, percent| samples.percentile(percent).as_secs_f64() * 1000.0;
    let (writes, steps) = (Samples::of(writes), Samples::of(steps));
    vec![ms(&writes, 50), ms(&writes, 100), ms(&steps, 50), ms(&steps, 100)]
}

fn etcd() -> Result<Row> {
    let mut cluster = EtcdCluster::start()?;
    say(&format!("killing leaders of {}", cluster.name()));
    let mut writes = Vec::new();
    for _ in 0..KILLS {
        let leader = cluster.leader(LIMIT)?;
        let killed = Instant::now();
        cluster.kill(leader)?;
        until("etcd to take a write", || Ok(cluster.put_anywhere()))?;
        writes.push(killed.elapsed());
        cluster.start_again(leader, LIMIT)?;
    }
    Ok(Row { subject: cluster.name(), values: figures(writes.clone(), writes) })
}

/// Servers that share a database.
struct Installation {
    replicas: Vec<Option<Server>>,
    places: Vec<Place>,
    // Dropped in this order: first the servers, then what they used.
    _directory: TempDir,
    _database: Postgres,
}

fn helix(binary: &Path) -> Result<Row> {
    let mut installation = Installation::start(binary)?;
    say("killing leaders of helix");
    let (mut writes, mut steps) = (Vec::new(), Vec::new());
    for turn in 0..KILLS {
        let leader = installation.leader()?;
        let other = (leader + 1) % REPLICAS;
        // The writer is at the leader when it goes.
        create(&installation.replica(leader)?.api, &format!("before-{turn}"))?;
        let killed = Instant::now();
        installation.kill(leader);
        let api = &installation.replica(other)?.api;
        let name = format!("after-{turn}");
        until("helix to take a write", || Ok(create(api, &name).is_ok()))?;
        writes.push(killed.elapsed());
        let app = format!("/v1/apps/{name}?org=default&project=default");
        api.delete(&app)?;
        until("the app to be gone", || {
            let listed = api.get("/v1/apps?limit=200")?;
            Ok(!names(&listed).any(|it| it == name))
        })?;
        steps.push(killed.elapsed());
        installation.start_again(binary, leader)?;
    }
    let subject = format!("helix, {REPLICAS} servers on PostgreSQL");
    Ok(Row { subject, values: figures(writes, steps) })
}

impl Installation {
    fn start(binary: &Path) -> Result<Installation> {
        let database = Postgres::start()?;
        let database_url = database.new_database("helix")?;
        let directory = tempfile::tempdir().context("make a directory for helix")?;
        let places: Vec<Place> = (0..REPLICAS)
            .map(|index| Place {
                // The key file is in it, and all of them need the same.
                directory: directory.path().join(format!("replica-{index}")),
                database_url: Some(database_url.clone()),
            })
            .collect();
        let mut installation = Installation {
            replicas: Vec::new(),
            places,
            _directory: directory,
            _database: database,
        };
        for index in 0..REPLICAS {
            if index > 0 {
                installation.share_key(index)?;
            }
            let server = Server::start(binary, &installation.places[index], LIMIT)?;
            installation.replicas.push(Some(server));
        }
        let project = json!({ "name": "default", "parent": "default" });
        let api = &installation.replica(0)?.api;
        if names(&api.get("/v1/projects")?).all(|it| it != "default") {
            api.post("/v1/projects", &project)?;
        }
        Ok(installation)
    }

    /// What an operator does, once for each new replica.
    fn share_key(&self, index: usize) -> Result<()> {
        let to = &self.places[index].directory;
        std::fs::create_dir_all(to).context("make a directory for helix")?;
        let from = self.places[0].directory.join(KEY_FILE);
        std::fs::copy(from, to.join(KEY_FILE)).map(drop).context("share the key file")
    }

    fn replica(&self, index: usize) -> Result<&Server> {
        self.replicas[index].as_ref().context("find a replica that runs")
    }

    fn kill(&mut self, index: usize) {
        self.replicas[index] = None;
    }

    fn start_again(&mut self, binary: &Path, index: usize) -> Result<()> {
        self.replicas[index] = Some(Server::start(binary, &self.places[index], LIMIT)?);
        Ok(())
    }

    /// Which of those that run reconciles.
    fn leader(&self) -> Result<usize> {
        let mut leader = None;
        until("a replica to lead", || {
            let running = self.replicas.iter().flatten().next().context("find a replica")?;
            let listed = running.api.get("/v1/replicas")?;
            let items = listed["items"].as_array().cloned().unwrap_or_default();
            let led = items.iter().find(|it| it["reconciles"] == true);
            let url = led.and_then(|it| it["url"].as_str()).unwrap_or_default();
            leader = self.replicas.iter().position(|server| {
                server.as_ref().is_some_and(|it| url == format!("http://{}", it.api.address))
            });
            Ok(leader.is_some())
        })?;
        leader.context("find the replica that leads")
    }
}

/// The file that every replica has a copy of.
const KEY_FILE: &str = "keys";

fn create(api: &Api, name: &str) -> Result<Value> {
    api.post("/v1/apps?org=default&project=default", &json!({ "name": name }))
}

fn names(listed: &Value) -> impl Iterator<Item = &str> {
    listed["items"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str())
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !is_so()? {
        if Instant::now() > deadline {
            bail!("waited {LIMIT:?} for {what}");
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
