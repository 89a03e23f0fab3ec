//! HTTPS as a visitor and the owner of an app see it, with curl.

use std::process::Command;

use serde_json::Value;

use crate::world::{Places, World, can_isolate, until};

fn curl(places: &Places, port: u16, args: &[&str]) -> (String, i32) {
    let resolve = format!("{}:{port}:127.0.0.1", places.host);
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--resolve", &resolve])
        .args(args)
        .output()
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (said, output.status.code().unwrap_or(-1))
}

/// The port of the endpoint's HTTPS address, once it has one at this place.
fn https_port(world: &World, folder: &std::path::Path, place: usize) -> u16 {
    let mut port = None;
    until("the app to be served over HTTPS", || {
        let status: Value = world.json(folder, ["status"]);
        let endpoints = status["endpoints"].as_array().unwrap().iter();
        let mut urls = endpoints.filter_map(|it| it["current"]["reachable"][place].as_str());
        let url = urls.find(|url| url.starts_with("https://"));
        port = url.and_then(|url| url.rsplit(':').next()?.parse().ok());
        port.is_some()
    });
    port.unwrap()
}

#[test]
fn an_app_is_served_over_https_at_once_and_with_its_own_certificate_when_it_has_one() {
    if !can_isolate("https") {
        return;
    }
    let hello = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
    let mut world = World::start([hello]);
    until("the app to be there", || world.platform().stdout().contains("helix scale web=3"));
    let folder = world.copy_example("hello");
    let places = world.places(&folder);
    let port = https_port(&world, &folder, 1);
    let url = format!("https://{}:{port}/", places.host);
    assert_eq!(curl(&places, port, &[&url]).1, 60, "nobody trusts the installation unasked");

    let authority = folder.join("ca.pem");
    let authority = authority.to_str().unwrap();
    world.helix_in(&folder, ["certificates", "trust", "--out", authority]).ok();
    for version in ["--http1.1", "--http2"] {
        let args = ["--cacert", authority, version, "-w", " %{http_version}", &url];
        let (page, code) = curl(&places, port, &args);
        assert_eq!(code, 0, "{page}");
        let spoken = if version == "--http2" { " 2" } else { " 1.1" };
        assert!(page.contains("It runs.") && page.ends_with(spoken), "{page}");
    }

    let [cert, key] = ["own.pem", "own.key"].map(|file| folder.join(file));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj", "/CN=own"])
        .args(["-addext", &format!("subjectAltName=DNS:{}", places.host)])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let add = ["certificates", "add", "--cert", cert, "--key", key];
    let told = world.helix_in(&folder, add).ok();
    assert!(told.stdout.contains(&places.host), "{}", told.stdout);
    let port = https_port(&world, &folder, 0);
    let (page, code) = curl(&places, port, &["--cacert", cert, &url]);
    assert_eq!(code, 0, "{page}");
    let plain = format!("http://{}:{}/x?y", places.host, places.http.port());
    let args = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", &plain];
    let (led, _) = curl(&places, places.http.port(), &args);
    assert_eq!(led, format!("308 https://{}:{port}/x?y", places.host));
    world.interrupt().ok();
}
