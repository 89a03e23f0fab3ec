//! A domain from its record in a DNS server to the pages below it.

use serde_json::Value;

use crate::shop::Shop;
use crate::world::until;

impl Shop {
    fn domain(&self) -> Value {
        self.world.json(&self.folder, ["domains", "describe", "shop.test"])
    }
}

#[test]
fn an_app_is_reached_at_a_domain_once_its_record_is_there_and_keeps_it() {
    let Some(mut shop) = Shop::start("domains", &[]) else { return };
    assert!(shop.is_served_at("hello.apps.test"), "apps without a host get one below that");

    let refused = shop.helix(&["deploy"]).code_is(5);
    assert!(refused.stderr.contains("(domain_unproven)"), "{}", refused.stderr);
    assert!(refused.stderr.contains("helix domains add"), "{}", refused.stderr);
    let added: Value = shop.world.json(&shop.folder, ["domains", "add", "shop.test"]);
    let record = |part: &str| added["record"][part].as_str().unwrap().to_owned();
    assert_eq!(record("name"), "_helix.shop.test", "{added:#}");
    let refused = shop.helix(&["domains", "verify", "shop.test"]).code_is(5);
    assert!(refused.stderr.contains("no TXT record `_helix.shop.test`"), "{}", refused.stderr);
    let wrong = format!("--txt-record={},{}x", record("name"), record("value"));
    shop.dns.know(&[wrong]);
    let refused = shop.helix(&["domains", "verify", "shop.test"]).code_is(5);
    assert!(refused.stderr.contains("something else"), "{}", refused.stderr);

    // Beside so much else that it does not fit into one packet.
    let mut records: Vec<String> = (0..8)
        .map(|it| format!("--txt-record={},{it}{}", record("name"), "x".repeat(200)))
        .collect();
    records.push(format!("--txt-record={},{}", record("name"), record("value")));
    shop.dns.know(&records);
    // Nobody asks for it: it is looked for by itself.
    shop.helix(&["wait", "domain/shop.test", "--timeout", "50s"]).ok();
    assert_eq!(shop.domain()["current"]["proof"], "record");
    shop.helix(&["deploy"]).ok();
    for host in ["www.shop.test", "any.shop.test", "ANY.shop.test:80"] {
        assert!(shop.is_served_at(host), "{host}");
    }
    for host in ["shop.test", "a.any.shop.test", "hello.apps.test"] {
        assert!(!shop.is_served_at(host), "{host}");
    }

    shop.dns.know(&[]);
    shop.helix(&["domains", "verify", "shop.test"]).ok();
    let domain = shop.domain();
    assert_eq!(domain["current"]["problem"]["reason"], "domain_record_missing", "{domain:#}");
    assert_eq!(domain["conditions"][2]["reason"], "domain_record_missing", "{domain:#}");
    shop.helix(&["deploy"]).ok();
    assert!(shop.is_served_at("www.shop.test"));
    let refused = shop.helix(&["domains", "destroy", "shop.test", "--yes"]).code_is(5);
    assert!(refused.stderr.contains("(domain_in_use)"), "{}", refused.stderr);
    shop.world.interrupt().ok();
}

#[test]
fn a_wildcard_is_served_over_https_with_a_certificate_of_its_own() {
    let Some(mut shop) = Shop::start("wildcards", &[]) else { return };
    shop.helix(&["domains", "add", "shop.test"]).ok();
    shop.helix(&["domains", "vouch", "shop.test"]).ok();
    shop.helix(&["deploy"]).ok();
    let authority = shop.folder.join("ca.pem");
    let authority = authority.to_str().unwrap();
    shop.helix(&["certificates", "trust", "--out", authority]).ok();
    let mut port = String::new();
    until("the wildcard to be served over HTTPS", || {
        let endpoints: Value = shop.world.json(&shop.folder, ["endpoints", "describe", "tenants"]);
        let urls = endpoints["current"]["reachable"].as_array().unwrap().clone();
        let url = urls.iter().filter_map(Value::as_str).find(|it| it.starts_with("https://*."));
        port = url.and_then(|url| url.rsplit(':').next()).unwrap_or_default().to_owned();
        !port.is_empty()
    });
    let fetch = |host: &str| {
        let output = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "10", "--cacert", authority])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .arg(format!("https://{host}:{port}/"))
            .output()
            .expect("curl is installed");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for host in ["one.shop.test", "two.shop.test", "www.shop.test"] {
        let (code, page) = fetch(host);
        assert!(code == Some(0) && page.contains("It runs."), "{host}: {code:?} {page}");
    }
    assert_eq!(fetch("a.one.shop.test").0, Some(35), "no certificate is for it");
    shop.world.interrupt().ok();
}
