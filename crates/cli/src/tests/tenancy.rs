//! Making and destroying by name: what is asked, and what is sent.

use super::*;

const DESTROY: [&str; 4] = ["apps", "destroy", "hello", "--no-wait"];

#[tokio::test]
async fn a_name_is_made_where_the_line_says() {
    let (world, wire) = World::with_api().await;
    assert_eq!(world.helix(&["envs", "create", "hello@staging"]).await.code, 0);
    let (path, body) = wire.heard();
    assert_eq!(path, "/v1/envs");
    assert_eq!(body, serde_json::json!({ "name": "staging", "parent": "hello" }));
    let wrong = world.helix(&["apps", "create", "Not_a_name"]).await;
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

#[tokio::test]
async fn the_name_has_to_be_typed_exactly() {
    let (world, wire) = World::with_api().await;
    let outcome = world.answering("hallo\n", &DESTROY).await;
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Type `hello`: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("its name was not typed"), "{}", outcome.stderr);
    assert!(!wire.has_heard());

    let outcome = world.answering("hello\n", &DESTROY).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let (path, body) = wire.heard();
    assert!(path.starts_with("/v1/apps/app_"), "by id, whatever it is called by then: {path}");
    assert!(!body["query"].as_str().unwrap().contains("cascade"), "{body}");
}

#[tokio::test]
async fn nobody_is_asked_but_a_person() {
    let (world, wire) = World::with_api().await;
    let lines: [&[&str]; 3] = [&[], &["--json"], &["--no-input"]];
    for more in lines {
        let line = [&DESTROY, more].concat();
        // Without a terminal, then with one that must not be asked.
        let outcomes = match more {
            [] => vec![world.helix(&line).await],
            _ => vec![world.helix(&line).await, world.answering("hello\n", &line).await],
        };
        for outcome in outcomes {
            assert_eq!(outcome.code, 2, "{more:?}: {}", outcome.stderr);
            assert!(!outcome.stderr.contains("Type"), "{more:?}: {}", outcome.stderr);
            let said = outcome.stdout + &outcome.stderr;
            assert!(said.contains("add `--yes`"), "{more:?}: {said}");
        }
    }
    assert!(!wire.has_heard());
    let line = [&DESTROY[..], &["--yes", "--cascade"]].concat();
    assert_eq!(world.helix(&line).await.code, 0);
    assert!(wire.heard().1["query"].as_str().unwrap().contains("cascade=true"));
}

#[tokio::test]
async fn a_limit_that_cannot_be_read_is_a_usage_error() {
    let (world, wire) = World::with_api().await;
    let lines: [&[&str]; 3] = [
        &["quotas", "set", "instances=many"],
        &["quotas", "set", "buckets=3"],
        &["quotas", "set", "acme", "--installation", "apps=1"],
    ];
    for line in lines {
        let outcome = world.helix(line).await;
        assert_eq!(outcome.code, 2, "{line:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: "), "{line:?}: {}", outcome.stderr);
    }
    assert!(!wire.has_heard());
    let outcome = world.helix(&["quotas", "set", "acme", "memory=64Gi", "apps=default"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let limits = serde_json::json!({ "apps": null, "memory": 64_u64 << 30 });
    assert_eq!(wire.heard().1, serde_json::json!({ "org": "acme", "limits": limits }));
}
