//! An object store for archives and backups: SeaweedFS, a server of others' making that
//! speaks S3, with credentials, started here.
//!
//! [`Objects::start`] is shared with the tests of other rooms.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Starting takes some seconds on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is tried with other ports.
const STARTS: usize = 5;

/// Of what it has said, when a test fails.
const SHOWN_LINES: usize = 40;

const KEY: &str = "helix";
const SECRET: &str = "not-a-secret-of-anyone";

/// Where its bucket is made.
pub const URL: &str = "s3://history";

/// Who starts one: several at once would take each other's ports.
static STARTING: Mutex<()> = Mutex::new(());

/// A server, ended when dropped.
pub struct Objects {
    process: Child,
    arguments: Vec<String>,
    port: u16,
    directory: tempfile::TempDir,
}

impl Objects {
    /// `None`, having said so, when SeaweedFS is not installed.
    pub fn start() -> Option<Objects> {
        let found = Command::new("weed").arg("version").stdout(Stdio::null()).status();
        if found.is_err() {
            println!("skipped: SeaweedFS (`weed`) is not installed; `cargo xtask test` does");
            return None;
        }
        // A port that was free a moment ago may be taken now, by a test beside this one.
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        (0..STARTS).find_map(|_| Objects::try_start()).or_else(|| panic!("weed does not start"))
    }

    fn try_start() -> Option<Objects> {
        let directory = tempfile::Builder::new().prefix("helix-s3-").tempdir().unwrap();
        // All at once, so that none is given twice.
        let ports = free_ports();
        let port = ports[0];
        let mut ports = ports[1..].iter().copied();
        let mut next = || ports.next().unwrap();
        let words = ["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"];
        let mut arguments = words.map(str::to_owned).to_vec();
        arguments.push(format!("-dir={}", directory.path().display()));
        arguments.push(format!("-s3.config={}", write_credentials(directory.path())));
        // A few small volumes, so that a nearly full disk is no reason to fail.
        let small = ["-master.volumeSizeLimitMB=64", "-volume.max=8", "-metricsPort=0"];
        arguments.extend(small.map(str::to_owned));
        let unwanted = ["-s3.port.iceberg=0", "-s3.port.lance=0"];
        arguments.extend(unwanted.map(str::to_owned));
        for role in ["master", "volume", "filer"] {
            arguments.push(format!("-{role}.port={}", next()));
            arguments.push(format!("-{role}.port.grpc={}", next()));
        }
        arguments.push(format!("-s3.port={port}"));
        arguments.push(format!("-s3.port.grpc={}", next()));
        let process = spawn(&arguments, directory.path());
        let mut objects = Objects { process, arguments, port, directory };
        objects.make_bucket().then_some(objects)
    }

    /// `kill -9`, in the middle of whatever it does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again where it was, after [`Objects::kill`].
    pub fn restart(&mut self) {
        self.process = spawn(&self.arguments, self.directory.path());
        assert!(self.make_bucket(), "weed has ended");
    }

    /// How many objects have this in their name, as far as one page of a list tells.
    pub fn count(&self, part: &str) -> usize {
        let listed = self.curl(&["--get"], &format!("{}?list-type=2", bucket())).output();
        let listed = listed.expect("run curl");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        text.split("<Key>")
            .skip(1)
            .filter(|key| key.split('<').next().unwrap().contains(part))
            .count()
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

    /// With a request signed by curl, which is not ours; `false` when the server has ended.
    fn make_bucket(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            let made = self.curl(&["--request", "PUT"], bucket()).output().expect("run curl");
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            // It may be there already. The number alone would do for a port, too.
            if made.status.success() || said.contains("error: 409") {
                return true;
            }
            assert!(begun.elapsed() < PATIENCE, "no bucket: {said}");
            if !matches!(self.process.try_wait(), Ok(None)) {
                return false;
            }
            wait_a_little();
        }
    }
}

impl Objects {
    /// A signed request of its own for a path.
    fn curl(&self, more: &[&str], path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3"]);
        curl.arg("--user").arg(format!("{KEY}:{SECRET}")).args(more);
        curl.arg(format!("http://127.0.0.1:{}/{path}", self.port));
        curl
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = std::fs::read(self.directory.path().join("said")).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let last: Vec<_> = said.lines().rev().take(SHOWN_LINES).collect();
            println!("--- weed, last line first ---\n{}\n---", last.join("\n"));
        }
    }
}

fn bucket() -> &'static str {
    URL.trim_start_matches("s3://")
}

fn spawn(arguments: &[String], directory: &Path) -> Child {
    let said = std::fs::File::options();
    let said = said.clone().create(true).append(true).open(directory.join("said")).unwrap();
    let mut command = Command::new("weed");
    command.args(arguments).current_dir(directory).env("HOME", directory);
    command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    command.spawn().expect("start weed")
}

fn write_credentials(directory: &Path) -> String {
    let path = directory.join("credentials.json");
    let text = format!(
        r#"{{"identities":[{{"name":"helix","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn free_ports() -> [u16; 8] {
    let listeners = [(); 8].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().port())
}

fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(50));
}
