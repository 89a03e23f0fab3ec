//! The archive in an object store: SeaweedFS, a server of others' making that
//! speaks S3, with credentials, started here.
//!
//! [`Objects::start`] is shared with the tests of other rooms.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starting takes some seconds on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "helix";
const SECRET: &str = "not-a-secret-of-anyone";

/// Where its bucket is made.
pub const URL: &str = "s3://history";

/// A server, ended when dropped.
pub struct Objects {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Objects {
    /// `None`, having said so, when SeaweedFS is not installed.
    pub fn start() -> Option<Objects> {
        let found = Command::new("weed").arg("version").stdout(Stdio::null()).status();
        if found.is_err() {
            println!("skipped: SeaweedFS (`weed`) is not installed; `cargo xtask test` does");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("helix-s3-").tempdir().unwrap();
        let port = free_port();
        let said = std::fs::File::create(directory.path().join("said")).unwrap();
        let mut command = Command::new("weed");
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        command.arg(format!("-dir={}", directory.path().display()));
        command.arg(format!("-s3.config={}", write_credentials(directory.path())));
        // A few small volumes, so that a nearly full disk is no reason to fail.
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=4", "-metricsPort=0"]);
        command.arg("-s3.port.iceberg=0");
        for role in ["master", "volume", "filer"] {
            command.arg(format!("-{role}.port={}", free_port()));
            command.arg(format!("-{role}.port.grpc={}", free_port()));
        }
        command.arg(format!("-s3.port={port}")).arg(format!("-s3.port.grpc={}", free_port()));
        command.current_dir(directory.path()).env("HOME", directory.path());
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        let process = command.spawn().expect("start weed");
        let mut objects = Objects { process, port, _directory: directory };
        objects.make_bucket();
        Some(objects)
    }

    /// What reaches it, as a person sets them in the environment.
    pub fn variables(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// With a request signed by curl, which is not ours.
    fn make_bucket(&mut self) {
        let bucket = URL.trim_start_matches("s3://");
        let begun = Instant::now();
        loop {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", "--request", "PUT"]);
            curl.args([
                "--aws-sigv4",
                "aws:amz:us-east-1:s3",
                "--user",
                &format!("{KEY}:{SECRET}"),
            ]);
            curl.arg(format!("http://127.0.0.1:{}/{bucket}", self.port));
            let made = curl.output().expect("run curl");
            if made.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(begun.elapsed() < PATIENCE, "no bucket: {said}");
            assert!(matches!(self.process.try_wait(), Ok(None)), "weed has ended: {said}");
            wait_a_little();
        }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_credentials(directory: &Path) -> String {
    let path = directory.join("credentials.json");
    let text = format!(
        r#"{{"identities":[{{"name":"helix","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(50));
}
