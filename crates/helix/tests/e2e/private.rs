//! A registry that lets nobody in without a password, behind a certificate that
//! nobody knows: whose images run, whose do not, and where the password is not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::registry::{FIRST_PAGE, Registry, Server};
use crate::world::http::get;
use crate::world::{Output, World, can_isolate};

const USER: &str = "ann";
const PASSWORD: &str = "pl4nted-7c1e90";

/// The password as Apache's `htpasswd -B` writes it.
const HTPASSWD: &str = "ann:$2y$05$NZF.K5GHZbgdwjv0g3YKyewuzbed8Vp9LFMzjoiYYRzvqeJd4B7SK\n";

/// An address of this machine that is not loopback, where TLS is required.
fn outer_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting a datagram socket only picks the address.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("run a program");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A registry with the first nginx in it.
struct Private {
    server: Server,
    files: tempfile::TempDir,
}

impl Private {
    fn start(host: &str) -> Private {
        let files = tempfile::Builder::new().prefix("helix-e2e-private-").tempdir().unwrap();
        let path = |name: &str| files.path().join(name).display().to_string();
        std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
        std::fs::write(path("extensions"), format!("subjectAltName=IP:{host}")).unwrap();
        let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
        let made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
        let named = ["-subj", "/CN=an authority", "-keyout", &ca_key, "-out", &ca];
        run("openssl", &[&made[..], &named].concat());
        let (key, request) = (path("key.pem"), path("request.pem"));
        let asked = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a registry"];
        run("openssl", &[&asked[..], &["-keyout", &key, "-out", &request]].concat());
        let signed = ["x509", "-req", "-days", "2", "-CAcreateserial", "-in", &request];
        let by = ["-CA", &ca, "-CAkey", &ca_key, "-extfile", &path("extensions")];
        let certificate = path("certificate.pem");
        run("openssl", &[&signed[..], &by, &["-out", &certificate]].concat());
        let settings = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             auth:\n  htpasswd:\n    realm: here\n    path: {}\n\
             http:\n  addr: {host}:0\n  tls:\n    certificate: {certificate}\n    key: {key}\n",
            path("storage"),
            path("htpasswd"),
        );
        let server = Server::start(&files.path().join("config.yml"), &settings);
        let private = Private { server, files };
        private.fill();
        private
    }

    fn fill(&self) {
        let open = Registry::shared();
        // skopeo wants certificates under the usual names, in a folder.
        std::fs::create_dir(self.path("certificates")).unwrap();
        std::fs::copy(self.path("ca.pem"), self.path("certificates/ca.crt")).unwrap();
        self.write_docker_config();
        let skopeo = ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"];
        let config = self.path("config.json").display().to_string();
        let certificates = self.path("certificates").display().to_string();
        let to = ["--dest-authfile", &config, "--dest-cert-dir", &certificates];
        let from = format!("docker://{}", open.first);
        let tag = format!("docker://{}", self.tag());
        run("skopeo", &[&skopeo[..], &to, &[&from, &tag]].concat());
    }

    fn write_docker_config(&self) {
        let script = format!("{USER}:{PASSWORD}");
        let encoded = Command::new("openssl")
            .args(["base64", "-A"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(script.as_bytes())?;
                child.wait_with_output()
            })
            .unwrap();
        let auth = String::from_utf8(encoded.stdout).unwrap();
        let text = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.host());
        std::fs::write(self.path("config.json"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn host(&self) -> &str {
        &self.server.address
    }

    fn tag(&self) -> String {
        format!("{}/team/nginx:v1", self.host())
    }

    /// By the digest it has in the other registry.
    fn digest(&self) -> String {
        let open = Registry::shared();
        let digest = open.first.rsplit_once('@').unwrap().1.to_owned();
        format!("{}/team/nginx@{digest}", self.host())
    }
}

/// A command that is told something on standard input.
fn told(world: &World, args: &[&str], text: &str) -> Output {
    let mut command = world.command(world.work());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn deploy(world: &World, org: &str, image: &str) -> Output {
    world.helix(["--org", org, "deploy", "--image", image, "--port", "80", "--json"])
}

/// Which code a deploy is refused with.
fn refusal(output: Output, exit_code: i32) -> String {
    let document = output.code_is(exit_code).document();
    document["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn world_with(private: &Private) -> World {
    let ca = private.path("ca.pem").display().to_string();
    let mut world = World::start(["--registry-ca", &ca]);
    world.set_variable("HELIX_ENV", "production");
    world.set_variable("HELIX_APP", "nginx");
    world
}

fn holds(folder: &Path, text: &[u8]) -> Option<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().find_map(|entry| {
        let (kind, path) = (entry.file_type().ok()?, entry.path());
        if kind.is_dir() {
            return holds(&path, text);
        }
        let bytes = if kind.is_file() { std::fs::read(&path).unwrap_or_default() } else { vec![] };
        bytes.windows(text.len()).any(|window| window == text).then_some(path)
    })
}

#[test]
fn an_org_runs_the_images_it_may_have_and_no_other_does() {
    let name = "an_org_runs_the_images_it_may_have_and_no_other_does";
    let (true, Some(host)) = (can_isolate(name), outer_address()) else {
        return;
    };
    let private = Private::start(&host);
    let world = world_with(&private);
    let refused = deploy(&world, "default", &private.tag());
    assert!(refused.stdout.contains("helix registries add"), "{}", refused.stdout);
    assert_eq!(refusal(refused, 1), "image_unusable", "nobody may have it");

    let add = ["registries", "add", private.host(), "--username", USER, "--password-stdin"];
    told(&world, &add, "a wrong one\n").ok();
    assert_eq!(refusal(deploy(&world, "default", &private.tag()), 1), "image_unusable");
    told(&world, &add, &format!("{PASSWORD}\n")).ok();
    deploy(&world, "default", &private.tag()).ok();
    let places = world.places(&world.work());
    assert!(get(places.tcp, "x", "/").unwrap().body.contains(FIRST_PAGE));

    // It is on this machine by now, and is still not everybody's.
    world.helix(["orgs", "create", "acme"]).ok();
    for image in [private.tag(), private.digest()] {
        assert_eq!(refusal(deploy(&world, "acme", &image), 1), "image_unusable", "{image}");
    }

    let listed = world.json(&world.work(), ["registries", "list"]);
    assert_eq!(listed["items"][0]["username"], USER);
    let events = world.helix(["orgs", "events", "default", "--json"]).ok().stdout;
    assert!(events.contains("org.registry_set"));
    let audit = world.helix(["audit", "export", "--all"]).ok().stdout;
    for operation in ["deliver_pull_login", "org.registry_set"] {
        assert!(audit.contains(operation), "no {operation} in {audit}");
    }
    for said in [listed.to_string(), events, audit, world.platform().said()] {
        assert!(!said.contains(PASSWORD), "{said}");
    }
    assert_eq!(holds(&world.data(), PASSWORD.as_bytes()), None);

    // A login goes, what runs goes on.
    world.helix(["registries", "remove", private.host()]).ok();
    assert_eq!(refusal(deploy(&world, "default", &private.digest()), 1), "image_unusable");
    assert!(get(places.tcp, "x", "/").unwrap().body.contains(FIRST_PAGE));
    let config = private.path("config.json").display().to_string();
    world.helix(["registries", "add", private.host(), "--docker-config", &config]).ok();
    deploy(&world, "default", &private.digest()).ok();
}

#[test]
fn an_org_says_which_images_it_releases() {
    if !can_isolate("an_org_says_which_images_it_releases") {
        return;
    }
    let open = Registry::shared();
    let mut world = World::start::<&str>([]);
    world.set_variable("HELIX_ENV", "production");
    world.set_variable("HELIX_APP", "nginx");
    let tag = open.reference("nginx:first");
    world.helix(["policy", "set", "--allow", "ghcr.io/acme"]).ok();
    let refused = deploy(&world, "default", &tag);
    assert!(refused.stdout.contains("ghcr.io/acme"), "{}", refused.stdout);
    assert_eq!(refusal(refused, 5), "release_policy");

    let host = open.reference("");
    world.helix(["policy", "set", "--allow", host.trim_end_matches('/')]).ok();
    world.helix(["policy", "set", "--require-digest", "true"]).ok();
    let refused = deploy(&world, "default", &tag);
    assert!(refused.stdout.contains("@sha256:"), "it says what to write: {}", refused.stdout);
    assert_eq!(refusal(refused, 5), "release_policy");
    deploy(&world, "default", &open.first).ok();
    let shown = world.helix(["policy"]).ok().stdout;
    assert!(shown.contains("digest only"), "{shown}");
    // Of another org nothing was said.
    world.helix(["orgs", "create", "acme"]).ok();
    deploy(&world, "acme", &tag).ok();
}
