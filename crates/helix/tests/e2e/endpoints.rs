//! Kinds of endpoints, with software that speaks what they carry.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::registry::Registry;
use crate::world::{World, can_isolate, until};

/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world with one app of an image: `rest` is its processes and endpoints.
fn running(image: &str, up: &[&str], rest: &str) -> World {
    let registry = Registry::shared();
    let image = registry.software(image);
    let world = World::start(up);
    let text = format!("schema_version = \"v1\"\n[app]\nname = \"app\"\n{rest}");
    std::fs::write(world.work().join("helix.toml"), text).expect("write the manifest");
    world.helix(["deploy", "--image", &image]).ok();
    world
}

/// Where an endpoint of the app is reached.
fn reached(world: &World, endpoint: &str) -> String {
    let status: Value = world.json(&world.work(), ["status"]);
    let mut endpoints = status["endpoints"].as_array().unwrap().iter();
    let found = endpoints.find(|it| it["name"] == endpoint);
    let place = found.and_then(|it| it["current"]["reachable"][0].as_str());
    place.unwrap_or_else(|| panic!("{endpoint}: {status:#}")).to_owned()
}

fn curl(args: &[&str]) -> (String, i32) {
    let output = Command::new("curl").args(["-sS", "--max-time", "10"]).args(args).output();
    let output = output.expect("curl is installed");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.code().unwrap_or(-1))
}

const HAPROXY: &str = r#"
[processes.web]
ports = [{ name = "plain", internal = 8080 }, { name = "told", internal = 8081 }]
[[endpoints]]
protocol = "http"
[[endpoints]]
name = "plain"
listen_port = 80
[[endpoints]]
name = "told"
port = "told"
listen_port = 81
proxy_protocol = "v2"
backend_expects_proxy_protocol = true
"#;

#[test]
fn haproxy_is_told_whose_a_connection_is() {
    if !can_isolate("haproxy_is_told_whose_a_connection_is") {
        return;
    }
    let mut world = running("haproxy", &[], HAPROXY);
    let [plain, told] = ["plain", "told"].map(|endpoint| reached(&world, endpoint));
    // What it takes for the client, and who that really is.
    let ask = |place: &str| {
        let (said, code) = curl(&["-w", "%{local_ip} %{local_port}", &format!("http://{place}/")]);
        assert_eq!(code, 0, "{said}");
        said
    };
    let said = ask(&told);
    let (client, own) = said.split_once(" to port 81\n").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(client, own);
    // The address is a private network's; the shared port is on all of the machine's.
    let public = world.json(&world.work(), ["endpoints", "list", "--public"]);
    let exposed = public["items"].as_array().unwrap();
    assert!(exposed.len() == 1 && exposed[0]["name"] == "http", "{public:#}");
    let listed = world.helix(["endpoints", "list", "--public"]).ok().stdout;
    assert!(listed.contains("default/default/app@production/http"), "{listed}");
    let said = ask(&plain);
    let (client, own) = said.split_once(" to port 8080\n").unwrap_or_else(|| panic!("{said}"));
    assert_ne!(client, own, "it sees the edge");
    world.interrupt().ok();
}

#[test]
fn a_balancer_before_the_edge_is_believed_when_it_is_listed() {
    if !can_isolate("a_balancer_before_the_edge_is_believed_when_it_is_listed") {
        return;
    }
    let listed = ["--accept-proxy-from", "127.0.0.1,::1"];
    let mut world = running("haproxy", &listed, HAPROXY);
    let place = reached(&world, "http");
    let (host, port) = place.strip_prefix("http://").unwrap().rsplit_once(':').unwrap();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let url = format!("{place}/");
    let (said, code) = curl(&["--resolve", &resolve, "--haproxy-protocol", &url]);
    assert!(code == 0 && said.ends_with("to port 8080\n"), "{said}");
    let (said, code) = curl(&["--resolve", &resolve, &url]);
    assert_ne!(code, 0, "without a header it is refused: {said}");
    world.interrupt().ok();

    let wrong = world.helix(["up", "--accept-proxy-from", "everybody"]).code_is(2);
    assert!(wrong.stderr.contains("`everybody` is neither an address nor a network"), "{wrong:?}");
}

#[test]
fn the_access_log_goes_on_in_a_new_file_and_a_hangup_ends_nothing() {
    if !can_isolate("the_access_log_goes_on_in_a_new_file_and_a_hangup_ends_nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [log, moved] = ["access.log", "access.log.1"].map(|name| folder.path().join(name));
    let mut world = running("haproxy", &["--access-log", log.to_str().unwrap()], HAPROXY);
    let place = reached(&world, "http");
    let (host, port) = place.strip_prefix("http://").unwrap().rsplit_once(':').unwrap();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let visit = |path: &str| {
        let (said, code) = curl(&["--resolve", &resolve, &format!("{place}{path}")]);
        assert_eq!(code, 0, "{said}");
    };
    let tells = |file: &Path, path: &str| {
        let wanted = format!("\"path\":\"{path}\"");
        std::fs::read_to_string(file).is_ok_and(|text| text.contains(&wanted))
    };
    visit("/before");
    until("the log to tell of it", || tells(&log, "/before"));
    std::fs::rename(&log, &moved).unwrap();
    world.platform().signal(Signal::SIGHUP);
    until("another file to be there", || log.exists());
    visit("/after");
    until("the new file to tell of it", || tells(&log, "/after"));
    assert!(!tells(&moved, "/after"));
    world.interrupt().ok();
}

/// What nginx is, for a certificate in its environment: it says whom it takes for the
/// client, inside TLS.
const NGINX: &str = r#"
[processes.web]
command = ["sh", "-c", "cd /tmp; echo \"$CERT\" > cert.pem; echo \"$KEY\" > key.pem; echo \"$CONF\" > nginx.conf; exec nginx -c /tmp/nginx.conf -g 'daemon off;'"]
ports = [{ name = "tls", internal = 8443 }]
[processes.web.vars]
CONF = "user www-data; events {} http { access_log off; server { listen [::]:8443 ssl proxy_protocol ipv6only=off; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate /tmp/cert.pem; ssl_certificate_key /tmp/key.pem; location / { return 200 '$proxy_protocol_addr $ssl_protocol $ssl_server_name\n'; } } }"
@VARS@
[[endpoints]]
name = "shared"
protocol = "tls"
host = "secure.localhost"
proxy_protocol = "v2"
backend_expects_proxy_protocol = true
[[endpoints]]
name = "own"
protocol = "tls"
host = "own.localhost"
listen_port = 443
proxy_protocol = "v2"
backend_expects_proxy_protocol = true
"#;

#[test]
fn nginx_keeps_its_own_certificate_and_learns_whose_a_connection_is() {
    if !can_isolate("nginx_keeps_its_own_certificate_and_learns_whose_a_connection_is") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=secure.localhost"])
        .args(["-addext", "subjectAltName=DNS:secure.localhost,DNS:own.localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let text = |path: &Path| toml_string(&std::fs::read_to_string(path).unwrap());
    let vars = format!("CERT = {}\nKEY = {}", text(&cert), text(&key));
    let mut world = running("nginx", &[], &NGINX.replace("@VARS@", &vars));
    let trusted = ["--cacert", cert.to_str().unwrap()];

    let place = reached(&world, "shared");
    let (_, port) = place.rsplit_once(':').unwrap();
    let resolve = format!("secure.localhost:{port}:127.0.0.1");
    let args = [&trusted[..], &["--resolve", &resolve]].concat();
    let (said, code) = curl(&[&args[..], &[&format!("https://{place}/")]].concat());
    assert_eq!((said.as_str(), code), ("127.0.0.1 TLSv1.3 secure.localhost\n", 0));

    let own: SocketAddr = reached(&world, "own").parse().unwrap();
    let connect = format!("own.localhost:443:[{}]:443", own.ip());
    let args = [&trusted[..], &["--connect-to", &connect, "https://own.localhost/"]].concat();
    let (said, code) = curl(&[&args[..], &["-w", "%{local_ip}"]].concat());
    let told = said.split_once(" TLSv1.3 own.localhost\n").unwrap_or_else(|| panic!("{said}"));
    assert_eq!((told.0, code), (told.1, 0));
    let connect = format!("other.localhost:443:[{}]:443", own.ip());
    let (said, code) = curl(&["-k", "--connect-to", &connect, "https://other.localhost/"]);
    assert!(code == 35 && said.contains("unrecognized name"), "{code}: {said}");
    world.interrupt().ok();
}

fn toml_string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A question for the address of `app.test` (RFC 1035 §4.1).
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03app\x04test\0\0\x01\0\x01";

#[test]
fn a_name_server_answers_datagrams_and_connections() {
    if !can_isolate("a_name_server_answers_datagrams_and_connections") {
        return;
    }
    let mut world = running(
        "dnsmasq",
        &[],
        r#"
[processes.dns]
ports = [{ name = "datagrams", internal = 53, protocol = "udp" }, { name = "connections", internal = 53 }]
[[endpoints]]
process = "dns"
protocol = "udp"
listen_port = 53
[[endpoints]]
process = "dns"
listen_port = 53
"#,
    );
    let listed = world.helix(["endpoints", "list"]).ok().stdout;
    let [datagrams, connections] = ["udp-53", "tcp-53"].map(|endpoint| reached(&world, endpoint));
    assert_eq!(datagrams, connections);
    assert!(listed.contains(&format!("udp {datagrams}")), "{listed}");
    let address: SocketAddr = datagrams.parse().unwrap();

    // It hears only what comes from the address it asks.
    let socket = UdpSocket::bind("[::]:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = [0; 512];
    let mut length = 0;
    until("the datagram to be answered", || {
        socket.send(QUESTION).unwrap();
        length = socket.recv(&mut answer).unwrap_or_default();
        length > 0
    });
    assert!(answer[..length].ends_with(&[192, 0, 2, 7]), "{:?}", &answer[..length]);

    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = [&(QUESTION.len() as u16).to_be_bytes()[..], QUESTION].concat();
    stream.write_all(&question).unwrap();
    let mut size = [0; 2];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(size))];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(&[192, 0, 2, 7]), "{answer:?}");
    world.interrupt().ok();
    assert_eq!(world.traces(), Vec::<String>::new());
}

const NGINX_ON_IPV4: &str = r#"
[processes.web]
ports = [{ name = "http", internal = 80 }]
[[endpoints]]
name = "site"
listen_port = 80
ipv4 = true
"#;

#[test]
fn an_env_has_an_ipv4_address_when_it_asks_for_one() {
    if !can_isolate("an_env_has_an_ipv4_address_when_it_asks_for_one") {
        return;
    }
    // Two addresses of those set aside for measurements (RFC 2544), other ones each run.
    let random = std::process::id().to_be_bytes();
    let first = format!("198.19.{}.{}", random[2], random[3] & 0xfe);
    let registry = Registry::shared();
    let image = registry.software("nginx");
    let world = World::start(["--addresses", &format!("{first}/31"), "--deny-ports", "25"]);
    let text = format!("schema_version = \"v1\"\n[app]\nname = \"app\"\n{NGINX_ON_IPV4}");
    std::fs::write(world.work().join("helix.toml"), &text).expect("write the manifest");
    let refused = world.helix(["deploy", "--image", &image]).code_is(5);
    assert!(refused.stderr.contains("helix env ipv4 enable"), "{refused:?}");

    let plain = text.replace("ipv4 = true", "");
    std::fs::write(world.work().join("helix.toml"), plain).expect("write the manifest");
    world.helix(["deploy", "--image", &image]).ok();
    let given = world.helix(["env", "ipv4", "enable"]).ok().stdout;
    assert!(given.contains(&first), "{given}");
    std::fs::write(world.work().join("helix.toml"), &text).expect("write the manifest");
    world.helix(["deploy", "--image", &image]).ok();
    until("the page at the IPv4 address", || {
        let (said, code) = curl(&[&format!("http://{first}/")]);
        code == 0 && said.contains("nginx")
    });
    let status = world.helix(["status"]).ok().stdout;
    assert!(status.contains(&first), "{status}");

    let refused = world.helix(["env", "ipv4", "disable"]).code_is(5);
    assert!(refused.stderr.contains("site"), "{refused:?}");
    let usage: Value = world.json(&world.work(), ["usage"]);
    assert!(usage["ipv4"][0]["ipv4_ms"].as_u64().is_some_and(|ms| ms > 0), "{usage:#}");
    let denied = world.helix(["endpoints", "expose", "--listen-port", "25"]).code_is(5);
    assert!(denied.stderr.contains("no endpoint may listen on port 25"), "{denied:?}");
}
