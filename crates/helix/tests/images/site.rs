//! A machine of somebody who follows `deploy/README.md`: a copy of the folder, secrets, and
//! what runs by its compose file.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::engine::{Engine, run};
use crate::world::until;

/// What the program behind the tunnel serves: `deploy/www/index.html`.
pub const PAGE: &str = include_str!("../../../../deploy/www/index.html");

/// Below which the names of tunnels are.
const DOMAIN: &str = "helix.test";

/// The files of `deploy/`, all of which are used here.
const FILES: &[&str] = &[
    ".dockerignore",
    "Dockerfile",
    "compose.yaml",
    "data/.keep",
    "tunnels.toml",
    "www/index.html",
];

/// The folder, and the engine it is used with.
pub struct Site<'e> {
    engine: &'e Engine,
    /// What its `.env` says: HTTP, HTTPS and the API.
    ports: [u16; 3],
    folder: TempDir,
}

impl<'e> Site<'e> {
    /// The folder with the program in it.
    pub fn new(engine: &'e Engine) -> Site<'e> {
        let folder = tempfile::Builder::new().prefix("helix-images-").tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for file in FILES {
            let to = folder.path().join(file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(from.join(file), to).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        // What it says of itself to debuggers is most of a test's binary.
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(folder.path().join("helix")).arg(env!("CARGO_BIN_EXE_helix"));
        run(&mut strip);
        let ports = [(); 3].map(|()| free_port());
        let site = Site { engine, ports, folder };
        site.write_settings();
        site
    }

    fn write_settings(&self) {
        let [http, https, api] = self.ports;
        let busybox = &self.engine.busybox;
        let settings = format!(
            "COMPOSE_PROJECT_NAME=helix-test\nDOMAIN={DOMAIN}\nHTTP_PORT={http}\n\
             HTTPS_PORT={https}\nAPI_PORT={api}\nPROGRAM_IMAGE={busybox}\n"
        );
        std::fs::write(self.folder.path().join(".env"), settings).unwrap();
    }

    /// Builds one of the two, on the base there is.
    pub fn build(&self, target: &str) {
        let base = format!("BASE={}", self.engine.base);
        let tag = format!("helix-{target}");
        let folder = self.folder.path().to_str().unwrap();
        self.engine.docker(&[
            "build",
            "--quiet",
            "--build-arg",
            &base,
            "--target",
            target,
            "--tag",
            &tag,
            folder,
        ]);
    }

    pub fn program_bytes(&self) -> u64 {
        self.folder.path().join("helix").metadata().unwrap().len()
    }

    /// `docker-compose` with these words; what it prints.
    pub fn compose(&self, words: &[&str]) -> String {
        run(self.composing().args(words))
    }

    fn composing(&self) -> Command {
        let mut command = Command::new("docker-compose");
        self.engine.meant(&mut command).current_dir(self.folder.path());
        command
    }

    /// The token that may do everything.
    pub fn make_operator(&self) -> String {
        let token = run(Command::new("openssl").args(["rand", "-hex", "32"]));
        self.keep_secret("operator", &token);
        token
    }

    /// One that may do this and nothing else.
    pub fn make_token(&self, name: &str, scope: &str) -> String {
        let words = ["tokens", "create", name, "--service", "--scope", scope, "--json"];
        let made: Value = serde_json::from_str(&self.helix(&words)).expect("a document");
        let token = made["token"].as_str().expect("a token").to_owned();
        self.keep_secret(name, &token);
        token
    }

    fn keep_secret(&self, name: &str, token: &str) {
        let folder = self.folder.path().join("secrets");
        let file = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o444)).unwrap();
    }

    /// The command line inside the server's container.
    pub fn helix(&self, words: &[&str]) -> String {
        self.compose(&[&["exec", "-T", "server", "/usr/bin/helix"], words].concat())
    }

    pub fn container(&self, service: &str) -> String {
        self.compose(&["ps", "--quiet", service])
    }

    /// Waits until Docker finds that it is healthy.
    pub fn is_healthy(&self, service: &str) {
        let mut health = String::new();
        let container = self.container(service);
        until(&format!("{service} to be healthy"), || {
            let now = self.engine.ask(&container, "{{.State.Health.Status}} {{.State.Status}}");
            if now != health {
                println!("{service}: {now}");
                health = now;
            }
            assert!(!health.ends_with("exited"), "{}", self.compose(&["logs", service]));
            health == "healthy running"
        });
    }

    /// What a health check of the image would come to now.
    pub fn says_ready(&self, service: &str) -> bool {
        let mut command = self.composing();
        command.args(["exec", "-T", service, "/usr/bin/helix", "ready"]);
        let output = command.stdin(Stdio::null()).output().expect("run docker-compose");
        output.status.success()
    }

    pub fn tunnel_id(&self) -> String {
        let told = self.helix(&["tunnels", "describe", "demo", "--json"]);
        let told: Value = serde_json::from_str(&told).expect("a document");
        told["id"].as_str().expect("an id").to_owned()
    }

    /// What a visitor of the tunnel's public name gets, who trusts the installation; or why not.
    pub fn visit(&self) -> Result<String, String> {
        let https = self.ports[1];
        let host = format!("demo.{DOMAIN}:{https}");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]);
        curl.arg(self.authority()).args(["--resolve", &format!("{host}:127.0.0.1")]);
        let output = curl.arg(format!("https://{host}/")).output().expect("run curl");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn authority(&self) -> PathBuf {
        let path = self.folder.path().join("authority.pem");
        if !path.exists() {
            std::fs::write(&path, self.helix(&["certificates", "trust"])).unwrap();
        }
        path
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.composing().args(["logs", "--no-color", "--tail", "40"]).output();
            if let Ok(output) = output {
                println!("--- compose ---\n{}---", String::from_utf8_lossy(&output.stdout));
            }
        }
    }
}

/// A port of this machine that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
