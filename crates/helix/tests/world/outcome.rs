//! What a command came to: its output, its exit code, and what a status document
//! says about where an app is reachable.

use std::net::SocketAddr;

use serde_json::Value;

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Output {
    /// The same, having succeeded.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.code_is(0)
    }

    /// The same, having ended with this code.
    #[track_caller]
    pub fn code_is(self, code: i32) -> Output {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as the one document it has to be.
    #[track_caller]
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one JSON document: {error}\n{}", self.stdout))
    }

    /// Standard output as one document per line.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("a JSON document per line");
        self.stdout.lines().map(parse).collect()
    }
}

/// Where an app is reachable.
#[derive(Clone, Debug)]
pub struct Places {
    /// The name its requests carry, such as `hello.localhost`.
    pub host: String,
    /// The shared HTTP listener.
    pub http: SocketAddr,
    /// Its own address and port.
    pub tcp: SocketAddr,
}

impl Places {
    /// From the document of `helix status`; `None` unless both are there.
    pub fn of(status: &Value) -> Option<Places> {
        let endpoints = status["endpoints"].as_array()?;
        let reachable: Vec<&str> = endpoints
            .iter()
            .filter_map(|endpoint| endpoint["current"]["reachable"][0].as_str())
            .collect();
        let http = reachable.iter().find_map(|place| place.strip_prefix("http://"))?;
        let (host, port) = http.rsplit_once(':')?;
        Some(Places {
            host: host.to_owned(),
            http: (std::net::Ipv4Addr::LOCALHOST, port.parse().ok()?).into(),
            tcp: reachable.iter().find_map(|place| place.parse().ok())?,
        })
    }
}
