//! Tunnels: how they are listed, and what is asked of the API about one.

use super::*;

async fn world() -> (World, wire::Wire) {
    World::before(wire::Wire::serving(fixture::tunnelled()).await)
}

#[tokio::test]
async fn a_list_says_by_what_each_is_reached_who_is_attached_and_for_how_long_it_is_kept() {
    let (world, _wire) = world().await;
    let listed = world.helix(&["tunnels", "list"]).await;
    let lines: Vec<Vec<&str>> =
        listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let titles = ["TUNNEL", "PROTOCOL", "REACHED", "BY", "AGENT", "KEPT", "OWNER", "AGE"];
    assert_eq!(lines[0], titles, "{}", listed.stdout);
    let row = |name: &str| lines.iter().find(|line| line[0] == name).unwrap()[1..].to_vec();
    assert_eq!(row("demo")[..5], ["http", "https://demo.localhost:8443", "quic", "-", "ann"]);
    assert_eq!(row("raw")[..6], ["tcp", "20000", "-", "for", "good", "ann"]);
    assert_eq!(row("bad")[..5], ["tls", "bad.localhost", "disabled", "-", "ann"]);
    let described = world.helix(&["tunnels", "describe", "bad"]).await;
    assert!(described.stdout.contains("it is a phish"), "{}", described.stdout);
    let described = world.helix(&["describe", "tunnel/demo", "--json"]).await.json();
    assert_eq!(described["conditions"][1]["type"], "Connected");
    assert_eq!(described["conditions"][1]["message"], "An agent is attached at front.");
}

#[tokio::test]
async fn each_verb_asks_for_one_change() {
    let cases: [(&[&str], &str, Value); 5] = [
        (&["reserve", "demo"], "reserve", serde_json::json!({ "reserved": true })),
        (
            &["reserve", "demo", "--release", "--expected-version", "7"],
            "reserve",
            serde_json::json!({ "reserved": false, "expected_version": 7 }),
        ),
        (
            &["disable", "demo", "--reason", "it is a phish"],
            "disable",
            serde_json::json!({ "reason": "it is a phish" }),
        ),
        (&["enable", "demo"], "enable", serde_json::json!({})),
        (&["rotate", "demo"], "rotate", serde_json::json!({})),
    ];
    for (line, verb, body) in cases {
        let (world, wire) = world().await;
        let outcome = world.helix(&[&["tunnels"], line].concat()).await;
        assert_eq!(outcome.code, 0, "{line:?}: {}", outcome.stderr);
        assert_eq!(wire.heard(), (format!("/v1/tunnels/demo/{verb}"), body), "{line:?}");
    }
    let (world, wire) = world().await;
    assert_eq!(world.helix(&["tunnels", "disable", "demo"]).await.code, 2, "it wants a reason");
    assert!(!wire.has_heard());
}

#[tokio::test]
async fn one_is_given_up_by_its_name_whatever_the_verb() {
    for verb in ["delete", "destroy", "rm"] {
        let (world, wire) = world().await;
        let line = ["tunnels", verb, "demo", "--no-wait"];
        assert_eq!(world.answering("dem\n", &line).await.code, 2);
        assert!(!wire.has_heard());
        let outcome = world.answering("demo\n", &line).await;
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(wire.heard().0.starts_with("/v1/tunnels/tun_"));
    }
}
