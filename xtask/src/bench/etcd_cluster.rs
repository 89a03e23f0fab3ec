//! Peer: three members of etcd on this machine, whose leader can be killed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::http;
use crate::packages;
use crate::process::{self, Owned, free_port};

/// As few as can lose one.
const MEMBERS: usize = 3;

/// A member without a leader holds a write back for seconds; whoever writes goes
/// to another, and so it is the election that is measured.
const PATIENCE: Duration = Duration::from_millis(100);

/// They elect one of them before they answer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Three running members.
pub struct EtcdCluster {
    version: String,
    program: PathBuf,
    members: Vec<Member>,
    directory: TempDir,
}

struct Member {
    client: String,
    peer: String,
    process: Option<Owned>,
}

impl EtcdCluster {
    /// Starts them and waits until they take writes.
    ///
    /// # Errors
    /// When they do not.
    pub fn start() -> Result<EtcdCluster> {
        let program = packages::find("etcd")?.context("find etcd")?;
        let said = process::capture(Command::new(&program).arg("--version"))?;
        let version = said.lines().next().and_then(|line| line.rsplit(' ').next());
        let version = version.unwrap_or_default().to_owned();
        let address = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
        let members = (0..MEMBERS)
            .map(|_| Ok(Member { client: address()?, peer: address()?, process: None }))
            .collect::<Result<Vec<_>>>()?;
        let directory = tempfile::tempdir().context("make a directory for etcd")?;
        let mut cluster = EtcdCluster { version, program, members, directory };
        for index in 0..MEMBERS {
            cluster.spawn(index, "new")?;
        }
        cluster.leader(READY_WITHIN)?;
        Ok(cluster)
    }

    /// As the tables call it.
    pub fn name(&self) -> String {
        format!("etcd {}, {MEMBERS} members", self.version)
    }

    /// Waits until one member leads, everyone is there and a write is taken, and
    /// says which it is.
    ///
    /// # Errors
    /// When that does not come about within `limit`.
    pub fn leader(&self, limit: Duration) -> Result<usize> {
        let deadline = Instant::now() + limit;
        loop {
            let led: Vec<bool> = self.members.iter().filter_map(Member::leads).collect();
            let leader = led.iter().position(|leads| *leads);
            if let Some(leader) = leader
                && led.len() == MEMBERS
                && self.put_anywhere()
            {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                bail!("etcd's members have no leader after {limit:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends a member at once.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        match self.members[index].process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Starts a member that was killed.
    ///
    /// # Errors
    /// When it does not join the others within `limit`.
    pub fn start_again(&mut self, index: usize, limit: Duration) -> Result<()> {
        self.spawn(index, "existing")?;
        self.leader(limit).map(drop)
    }

    /// Writes through the first member that takes it.
    pub fn put_anywhere(&self) -> bool {
        let running = self.members.iter().filter(|member| member.process.is_some());
        let pair = r#"{"key":"d2FudGVk","value":"d2FudGVk"}"#;
        let put = |member: &Member| http::ask_within(&member.client, "/v3/kv/put", pair, PATIENCE);
        let mut running = running.map(put);
        running.any(|put| put.is_ok())
    }

    fn spawn(&mut self, index: usize, state: &str) -> Result<()> {
        let all: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| format!("m{index}=http://{}", member.peer))
            .collect();
        let member = &mut self.members[index];
        let (client, peer) =
            (format!("http://{}", member.client), format!("http://{}", member.peer));
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &format!("m{index}"), "--data-dir"])
            .arg(self.directory.path().join(format!("m{index}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", state])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        member.process = Some(Owned::spawn(&mut command)?);
        Ok(())
    }
}

impl Member {
    /// Whether it leads; `None` when it does not answer.
    fn leads(&self) -> Option<bool> {
        self.process.as_ref()?;
        let status = http::ask(&self.client, "/v3/maintenance/status", "{}").ok()?;
        let own = status["header"]["member_id"].as_str()?;
        Some(status["leader"].as_str() == Some(own))
    }
}
