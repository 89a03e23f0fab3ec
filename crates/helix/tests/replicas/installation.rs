//! Three servers on a PostgreSQL of their own, two nodes and an edge, each a
//! process that can be killed and started again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::api::{self, TOKEN};
use crate::cluster::Cluster;
use crate::world::platform::Platform;
use crate::world::{Output, Setup, World, tool, traces, until};

const SERVERS: usize = 3;

/// All of it; ended in `Drop`.
pub struct Installation {
    pub world: World,
    pub database: Cluster,
    database_url: String,
    pub replicas: Vec<SocketAddr>,
    servers: Vec<Option<Platform>>,
    /// By name.
    machines: BTreeMap<String, Platform>,
    /// May link machines and nothing else.
    machine_token: String,
    /// Where visitors come in.
    pub edge: SocketAddr,
}

impl Installation {
    /// `None`, having said so, without PostgreSQL.
    pub fn start() -> Option<Installation> {
        let database = Cluster::start()?;
        let database_url = database.create_database();
        let mut world = World::new(Setup::default());
        let replicas: Vec<SocketAddr> = (0..SERVERS).map(|_| free_address()).collect();
        world.set_variable("HELIX_TOKEN", TOKEN);
        world.set_variable("HELIX_URL", format!("http://{}", replicas[0]));
        let edge = free_address();
        let mut installation = Installation {
            world,
            database,
            database_url,
            replicas,
            servers: Vec::new(),
            machines: BTreeMap::new(),
            machine_token: String::new(),
            edge,
        };
        for index in 0..SERVERS {
            installation.servers.push(None);
            installation.start_server(index);
        }
        installation.machine_token = installation.make_machine_token();
        // Each begins with another server, so that all have something to do.
        installation.start_machine("node", "n1", 0, &["--isolation", "process"]);
        installation.start_machine("node", "n2", 1, &["--isolation", "process"]);
        let port = edge.port().to_string();
        installation.start_machine("edge", "e1", 2, &["--http-port", &port, "--https-port", "0"]);
        Some(installation)
    }

    /// Starts a server and waits until it is there for the others too.
    pub fn start_server(&mut self, index: usize) {
        let data = self.world.data().join(format!("s{index}"));
        std::fs::create_dir_all(&data).unwrap();
        if index > 0 {
            // As an operator does: one key file for all.
            std::fs::copy(self.world.data().join("s0/keys"), data.join("keys")).unwrap();
        }
        let mut command = self.world.command(self.world.work());
        command.args(["server", "--listen", &self.replicas[index].to_string(), "--data-dir"]);
        command.arg(data).env("HELIX_DATABASE_URL", &self.database_url);
        let server = Platform::spawn(command);
        until("the server to be up", || {
            assert!(server.is_running(), "the server has ended:\n{}", server.said());
            server.stderr().contains("Ctrl-C stops it")
        });
        self.servers[index] = Some(server);
        let own = format!("http://{}", self.replicas[index]);
        until("the server to be among the replicas", || {
            let listed = api::try_get(self.replicas[index], "/v1/replicas");
            listed.is_some_and(|listed| urls(&listed).any(|url| url == own))
        });
    }

    /// `kill -9`.
    pub fn kill_server(&mut self, index: usize) {
        let server = self.servers[index].take().expect("it runs");
        server.signal(Signal::SIGKILL);
        server.wait();
    }

    /// Which server reconciles, as one that is up sees it.
    pub fn leader(&self) -> Option<usize> {
        let up = (0..SERVERS).find(|index| self.servers[*index].is_some())?;
        let listed = api::try_get(self.replicas[up], "/v1/replicas")?;
        let leader = listed["items"].as_array()?.iter().find(|it| it["reconciles"] == true)?;
        let url = leader["url"].as_str()?.strip_prefix("http://")?;
        self.replicas.iter().position(|replica| replica.to_string() == url)
    }

    /// Another process takes over what the edge listens on; the one before ends by itself.
    pub fn replace_edge(&mut self) {
        let before = self.machines.remove("e1").expect("it runs");
        let port = self.edge.port().to_string();
        let more = ["--takeover", "--http-port", &port, "--https-port", "0"];
        self.start_machine("edge", "e1", 2, &more);
        before.wait().ok();
    }

    fn start_machine(&mut self, role: &str, name: &str, first: usize, more: &[&str]) {
        let servers: Vec<String> = (0..SERVERS)
            .map(|turn| format!("http://{}", self.replicas[(first + turn) % SERVERS]))
            .collect();
        let mut command = self.world.command(self.world.work());
        command.args([role, "--server", &servers.join(","), "--name", name, "--data-dir"]);
        command.arg(self.world.data().join(name)).args(more);
        command.env("HELIX_TOKEN", &self.machine_token);
        let machine = Platform::spawn(command);
        until("the machine to be linked", || {
            assert!(machine.is_running(), "`helix {role}` has ended:\n{}", machine.said());
            machine.stderr().contains("linked to http")
        });
        self.machines.insert(name.to_owned(), machine);
    }

    fn make_machine_token(&self) -> String {
        let words =
            ["tokens", "create", "machines", "--service", "--scope", "nodes:link", "--json"];
        let made = self.helix_at(0, &words).ok().document();
        made["token"].as_str().expect("the token").to_owned()
    }

    /// The power goes at the machine of a node: its agent and all that runs there.
    pub fn kill_machine(&mut self, name: &str) {
        let machine = self.machines.remove(name).expect("there is such a machine");
        machine.signal(Signal::SIGKILL);
        machine.wait();
        let data = self.world.data().join(name);
        traces::remove(&data, &data);
    }

    /// Deploys the tool, with instances on both nodes.
    pub fn deploy_tool(&self) {
        tool::write(&self.world.work());
        self.world.helix(["deploy", "--env", "production"]).ok();
        self.world.helix(["scale", "web=4", "--env", "production"]).ok();
    }

    /// Where the app is reached by the IPv6 address of its env.
    pub fn expose_by_address(&self) -> SocketAddr {
        let words = ["endpoints", "expose", "plain", "--process", "web", "--listen-port", "81"];
        self.world.helix([&words[..], &["--env", "production"]].concat()).ok();
        let words = ["endpoints", "describe", "plain", "--env", "production", "--json"];
        let place = || {
            let seen = self.world.helix(words).ok().document();
            seen["current"]["reachable"][0].as_str().and_then(|it| it.parse().ok())
        };
        until("the endpoint to be reached", || place().is_some());
        place().expect("it is reached")
    }

    /// A command that speaks to one replica.
    pub fn helix_at(&self, index: usize, args: &[&str]) -> Output {
        let mut command = self.world.command(self.world.work());
        command.args(args).env("HELIX_URL", format!("http://{}", self.replicas[index]));
        Platform::spawn(command).wait()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        for process in
            self.servers.drain(..).flatten().chain(std::mem::take(&mut self.machines).into_values())
        {
            if std::thread::panicking() {
                println!("--- {} ---\n{}", process.pid(), process.said());
            }
            process.signal(Signal::SIGTERM);
            process.end();
        }
    }
}

fn urls(listed: &Value) -> impl Iterator<Item = &str> {
    listed["items"].as_array().into_iter().flatten().filter_map(|it| it["url"].as_str())
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}
