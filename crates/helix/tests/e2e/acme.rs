//! Certificates that an authority of others' making issues: Pebble, which comes to the
//! edge to see who has a host, as public ones do.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::shop::Shop;
use crate::world::{until, wait_for};

/// A port at which nobody is.
const NOWHERE: u16 = 1;

/// So short that a test can wait for the renewal.
const VALID_SECONDS: u64 = 36;

/// Where an authority will be, and the certificate it is spoken to with.
struct Place {
    folder: tempfile::TempDir,
    api: SocketAddr,
    management: SocketAddr,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("helix-acme-").tempdir().unwrap();
        // Both at once, so that they differ.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [api, management] = free.map(|it| it.local_addr().unwrap());
        let place = Place { folder, api, management };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=pebble", "-config", "/dev/null"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .arg("-out")
            .arg(place.file("tls.pem"))
            .arg("-keyout")
            .arg(place.file("tls.key"))
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn directory(&self) -> String {
        format!("https://{}/dir", self.api)
    }
}

/// The authority, ended when dropped.
struct Pebble<'p> {
    process: Child,
    place: &'p Place,
}

impl Pebble<'_> {
    /// One that asks this DNS server for hosts and comes to these ports of theirs.
    fn start(place: &Place, dns: SocketAddr, (http, https): (u16, u16)) -> Pebble<'_> {
        let config = json!({ "pebble": {
            "listenAddress": place.api,
            "managementListenAddress": place.management,
            "certificate": place.file("tls.pem"),
            "privateKey": place.file("tls.key"),
            "httpPort": http,
            "tlsPort": https,
            "certificateValidityPeriod": VALID_SECONDS,
        }});
        let file = place.file("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Command::new("pebble")
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", &dns.to_string(), "-strict"])
            // Each order is to be answered, and some questions are refused once.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", "5")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start pebble");
        let pebble = Pebble { process, place };
        assert!(wait_for(|| TcpStream::connect(place.api).is_ok()), "pebble does not start");
        pebble
    }

    /// What visitors are to trust, as a file.
    fn root(&self) -> PathBuf {
        let root = self.place.file("root.pem");
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "10", "--cacert"])
            .arg(self.place.file("tls.pem"))
            .arg("-o")
            .arg(&root)
            .arg(format!("https://{}/roots/0", self.place.management))
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        root
    }
}

impl Drop for Pebble<'_> {
    fn drop(&mut self) {
        // An error means that it is gone, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A DNS server that has records made over HTTP, ended when dropped.
struct Records {
    process: Child,
    dns: SocketAddr,
    management: SocketAddr,
}

impl Records {
    fn start() -> Records {
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [dns, management] = free.map(|it| it.local_addr().unwrap());
        let process = Command::new("pebble-challtestsrv")
            .args(["-dns01", &dns.to_string(), "-management", &management.to_string()])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start pebble-challtestsrv");
        let records = Records { process, dns, management };
        assert!(wait_for(|| TcpStream::connect(management).is_ok()), "it does not start");
        records
    }

    /// The operator's program that makes a record in it and takes one away.
    fn hook(&self, folder: &Path) -> PathBuf {
        let path = folder.join("dns-hook");
        let text = format!(
            "#!/bin/sh\n\
             case $1 in set) way=set-txt ;; remove) way=clear-txt ;; esac\n\
             echo \"$1 $2\" >> {}\n\
             exec curl -sSf --max-time 10 -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" http://{}/$way\n",
            folder.join("dns-hook.log").display(),
            self.management
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // As above.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Shop {
    /// With an authority at a place where nobody is yet. `None`, having said so, where that
    /// cannot be.
    fn with_authority(test: &str, place: &Place, more: &[&str]) -> Option<Shop> {
        if is_missing("pebble") {
            println!("skipped: pebble is not installed; `cargo xtask test` does");
            return None;
        }
        let (directory, trusted) = (place.directory(), place.file("tls.pem"));
        let usual = ["--acme-directory", &directory, "--acme-ca", trusted.to_str().unwrap()];
        Shop::start(test, &[&usual[..], more].concat())
    }

    /// Has the app reached at its own domain.
    fn open(&mut self) {
        self.helix(&["domains", "add", "shop.test"]).ok();
        self.helix(&["domains", "vouch", "shop.test"]).ok();
        self.helix(&["deploy"]).ok();
    }

    fn certificate(&self, name: &str) -> Option<Value> {
        let output = self.helix(&["certificates", "describe", name, "--json"]);
        (output.code == 0).then(|| output.document())
    }

    fn is_valid(&self, name: &str) -> bool {
        self.certificate(name).is_some_and(|it| it["current"]["phase"] == "valid")
    }

    /// Why an order failed, once it has.
    fn complaint(&self, name: &str) -> String {
        let mut told = String::new();
        until("an order to fail", || {
            let certificate = self.certificate(name).unwrap_or_default();
            told = certificate["current"]["order"]["problem"].as_str().unwrap_or_default().into();
            !told.is_empty()
        });
        told
    }

    /// The shared HTTPS listener, once an endpoint is served there.
    fn https_port(&self, endpoint: &str) -> u16 {
        let mut port = None;
        until("the edge to have a certificate", || {
            let endpoint: Value =
                self.world.json(&self.folder, ["endpoints", "describe", endpoint]);
            let urls = endpoint["current"]["reachable"].as_array().cloned().unwrap_or_default();
            let mut urls = urls.iter().filter_map(|url| url.as_str()?.strip_prefix("https://"));
            port = urls.find_map(|url| url.rsplit(':').next()?.parse().ok());
            port.is_some()
        });
        port.unwrap()
    }
}

/// The status code and the page, or curl's own code.
fn visit(host: &str, port: u16, scheme: &str, root: &Path) -> Result<(String, String), i32> {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--resolve", &format!("{host}:{port}:127.0.0.1")])
        .arg("--cacert")
        .arg(root)
        .args(["-w", "\n%{http_code}"])
        .arg(format!("{scheme}://{host}:{port}/"))
        .output()
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (page, status) = said.rsplit_once('\n').unwrap_or_default();
    match output.status.code() {
        Some(0) => Ok((status.to_owned(), page.to_owned())),
        other => Err(other.unwrap_or(-1)),
    }
}

fn is_missing(program: &str) -> bool {
    Command::new(program).arg("-h").stderr(Stdio::null()).stdout(Stdio::null()).status().is_err()
}

#[test]
fn a_certificate_comes_by_itself_serves_the_host_and_is_renewed() {
    let place = Place::new();
    let contact = ["--acme-contact", "ops@shop.test"];
    let Some(mut shop) = Shop::with_authority("acme", &place, &contact) else { return };
    let told = shop.complaint("hello-apps-test");
    assert!(told.contains("cannot be asked"), "nobody is there yet: {told}");
    assert!(shop.is_served_at("hello.apps.test"));

    let pebble = Pebble::start(&place, shop.dns.address(), (shop.http().port(), NOWHERE));
    shop.open();
    let told = shop.complaint("www-shop-test");
    assert!(told.contains("www.shop.test"), "DNS leads nowhere yet: {told}");
    let listed = shop.helix(&["certificates", "list"]).ok();
    assert!(listed.stdout.contains("pending"), "{}", listed.stdout);
    assert!(!listed.stdout.contains("*.shop.test"), "no wildcards: {}", listed.stdout);

    shop.dns.know(&["--host-record=www.shop.test,127.0.0.1".to_owned()]);
    // It would be tried again in a minute; without this one, at once.
    shop.helix(&["certificates", "destroy", "www-shop-test", "--yes"]).ok();
    until("the certificate to be issued", || shop.is_valid("www-shop-test"));
    let first = shop.certificate("www-shop-test").unwrap();
    assert_eq!(first["desired"]["source"], "acme", "{first:#}");
    let (port, root) = (shop.https_port("site"), pebble.root());
    until("the edge to serve it", || visit("www.shop.test", port, "https", &root).is_ok());
    let (status, page) = visit("www.shop.test", port, "https", &root).expect("a visit");
    assert!(status == "200" && page.contains("It runs."), "{status} {page}");
    let led = visit("www.shop.test", shop.http().port(), "http", &root).expect("a visit");
    assert_eq!(led.0, "308", "plain HTTP is led there");

    until("the certificate to be renewed", || {
        let now = shop.certificate("www-shop-test").unwrap();
        assert_ne!(now["current"]["phase"], "expired", "{now:#}");
        now["desired"]["fingerprint"] != first["desired"]["fingerprint"]
    });
    let (status, page) = visit("www.shop.test", port, "https", &root).expect("a visit");
    assert!(status == "200" && page.contains("It runs."), "{status} {page}");
    let events = shop.helix(&["certificates", "events", "www-shop-test"]).ok();
    for event in ["certificate.challenged", "certificate.answered", "certificate.replaced"] {
        assert!(events.stdout.contains(event), "{event}: {}", events.stdout);
    }
    shop.world.interrupt().ok();
}

#[test]
fn an_authority_may_come_by_a_handshake_instead() {
    let place = Place::new();
    let by_tls = ["--acme-challenge", "tls-alpn-01"];
    let Some(mut shop) = Shop::with_authority("acme_tls", &place, &by_tls) else { return };
    let port = shop.https_port("http");
    let _pebble = Pebble::start(&place, shop.dns.address(), (NOWHERE, port));
    shop.dns.know(&["--host-record=www.shop.test,127.0.0.1".to_owned()]);
    shop.open();
    until("the certificate to be issued", || shop.is_valid("www-shop-test"));
    // Whoever else comes is served as before.
    let listener = format!("127.0.0.1:{port}");
    let asked = |protocol: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &listener, "-servername", "www.shop.test"])
            .args(["-alpn", protocol])
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    until("the edge to serve it", || asked("http/1.1").contains("Pebble Intermediate"));
    let said = asked("acme-tls/1");
    assert!(!said.contains("BEGIN CERTIFICATE"), "no order is under way: {said}");
    shop.world.interrupt().ok();
}

#[test]
fn a_wildcard_comes_by_a_record_that_the_operators_program_makes() {
    let place = Place::new();
    if is_missing("pebble-challtestsrv") {
        println!("skipped: pebble is not installed; `cargo xtask test` does");
        return;
    }
    let records = Records::start();
    let hook = records.hook(place.folder.path());
    let more = ["--acme-dns-hook", hook.to_str().unwrap()];
    let Some(mut shop) = Shop::with_authority("acme_dns", &place, &more) else { return };
    let pebble = Pebble::start(&place, records.dns, (shop.http().port(), NOWHERE));
    shop.open();
    until("the certificate to be issued", || shop.is_valid("any-shop-test"));
    let certificate = shop.certificate("any-shop-test").unwrap();
    assert_eq!(certificate["desired"]["names"], json!(["*.shop.test"]), "{certificate:#}");
    let (port, root) = (shop.https_port("tenants"), pebble.root());
    until("the edge to serve it", || visit("one.shop.test", port, "https", &root).is_ok());
    let (status, page) = visit("two.shop.test", port, "https", &root).expect("a visit");
    assert!(status == "200" && page.contains("It runs."), "{status} {page}");
    let done = std::fs::read_to_string(place.file("dns-hook.log")).unwrap();
    let record = "_acme-challenge.shop.test";
    assert!(done.starts_with(&format!("set {record}\nremove {record}\n")), "{done}");
    shop.world.interrupt().ok();
}
