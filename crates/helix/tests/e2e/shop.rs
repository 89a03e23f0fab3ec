//! An app that is to be reached at names in a DNS server of ours.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::dns::Dns;
use crate::world::http::get;
use crate::world::{Output, Setup, World, can_isolate, until};

/// Besides the app: where it is reached.
const ENDPOINTS: &str = r#"
[[endpoints]]
name = "site"
protocol = "http"
host = "www.shop.test"

[[endpoints]]
name = "tenants"
protocol = "http"
host = "*.shop.test"
"#;

/// A platform that asks a DNS server of ours, and the folder of an app.
pub struct Shop {
    pub world: World,
    pub dns: Dns,
    /// Of the app, with its manifest.
    pub folder: PathBuf,
}

impl Shop {
    /// With these options of `helix up`. `None`, having said so, where that cannot be.
    pub fn start(test: &str, options: &[&str]) -> Option<Shop> {
        if !can_isolate(test) {
            return None;
        }
        let dns = Dns::start(&[])?;
        let mut world = World::new(Setup::default());
        let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
        let (hello, asked) = (hello.to_str().unwrap(), dns.address().to_string());
        let usual = [hello, "--dns", &asked, "--app-domain", "apps.test"];
        world.up(usual.iter().chain(options));
        until("the app to be there", || world.platform().stdout().contains("helix scale web=3"));
        let folder = world.copy_example("hello");
        let manifest = folder.join("helix.toml");
        let text = std::fs::read_to_string(&manifest).unwrap() + ENDPOINTS;
        std::fs::write(&manifest, text).unwrap();
        Some(Shop { world, dns, folder })
    }

    /// A command in the app's folder.
    pub fn helix(&self, words: &[&str]) -> Output {
        self.world.helix_in(&self.folder, words)
    }

    /// The shared HTTP listener.
    pub fn http(&self) -> SocketAddr {
        let status: Value = self.world.json(&self.folder, ["status"]);
        let endpoints = status["endpoints"].as_array().unwrap().iter();
        let mut urls = endpoints.filter_map(|it| it["current"]["reachable"][0].as_str());
        let url = urls.find(|url| url.starts_with("http://")).expect("an HTTP endpoint");
        let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap();
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Whether the app is served there over plain HTTP.
    pub fn is_served_at(&self, host: &str) -> bool {
        let answer = get(self.http(), host, "/").unwrap();
        let serves = answer.status == 200 && answer.body.contains("It runs.");
        assert!(serves || answer.status == 404, "{host}: {}", answer.body);
        serves
    }
}
