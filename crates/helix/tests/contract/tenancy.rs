//! Orgs, projects, apps and envs made and destroyed by hand; quotas and usage.

use serde_json::json;

use crate::desk::{Desk, is_documented, is_told};

#[test]
fn what_is_made_by_name_is_destroyed_by_name() {
    let desk = Desk::empty();
    let steps: [&[&str]; 4] = [
        &["orgs", "create", "acme"],
        &["projects", "create", "acme/shop"],
        &["apps", "create", "acme/shop/web"],
        &["envs", "create", "acme/shop/web@staging"],
    ];
    for words in steps {
        let made = desk.run(words).ok();
        assert!(made.stdout.contains("next"), "{words:?}: {}", made.stdout);
        is_told(&desk.run(words).code_is(5), words);
    }
    let made = desk.json(&["envs", "create", "acme/shop/web@preview"]);
    assert_eq!(made["target"], "acme/shop/web@preview", "{made:#}");
    assert_eq!(made["receipt"]["operation"], "create_env");
    is_told(&desk.run(&["apps", "create", "Not_a_name"]).code_is(2), &["apps create"]);
    is_told(&desk.run(&["envs", "create", "acme/none/web@x"]).code_is(4), &["envs create"]);

    let held = desk.run(&["orgs", "destroy", "acme", "--yes", "--json"]).code_is(5);
    assert_eq!(is_documented(&held.document(), 5, &["orgs destroy"])["code"], "not_empty");
    let gone = desk.run(&["envs", "rm", "acme/shop/web@preview", "--yes"]).ok();
    assert!(gone.stdout.contains("env acme/shop/web@preview is gone"), "{}", gone.stdout);
    let gone = desk.json(&["orgs", "destroy", "acme", "--cascade", "--yes"]);
    assert_eq!((&gone["target"], &gone["gone"]), (&json!("acme"), &json!(true)), "{gone:#}");
    desk.run(&["wait", "org/acme", "--for", "gone"]).code_is(4);
    desk.run(&["orgs", "describe", "acme"]).code_is(4);
}

#[test]
fn nobody_is_asked_where_nobody_sits() {
    let desk = Desk::empty();
    desk.run(&["apps", "create", "web"]).ok();
    for words in [&["apps", "destroy", "web"] as &[&str], &["apps", "destroy", "web", "--no-input"]]
    {
        let refused = desk.run(words).code_is(2);
        is_told(&refused, words);
        assert!(refused.stderr.contains("add `--yes`"), "{}", refused.stderr);
    }
    desk.run(&["apps", "describe", "web"]).ok();
}

#[test]
fn a_node_that_answers_stays() {
    let desk = Desk::empty();
    let listed = desk.json(&["nodes", "list"]);
    let name = listed["items"][0]["name"].as_str().unwrap();
    let refused = desk.run(&["nodes", "destroy", name, "--yes", "--json"]).code_is(5);
    let problem = is_documented(&refused.document(), 5, &["nodes destroy"]);
    assert_eq!(problem["code"], "precondition_failed");
    is_told(&desk.run(&["nodes", "destroy", "nobody", "--yes"]).code_is(4), &["nodes destroy"]);
}

#[test]
fn a_destroyed_app_stops_frees_its_host_and_stays_on_the_bill() {
    let desk = Desk::with_app();
    let quotas = desk.json(&["quotas"]);
    let used = |name: &str| {
        let items = quotas["items"].as_array().unwrap();
        items.iter().find(|it| it["dimension"] == name).unwrap()["used"].clone()
    };
    assert_eq!((used("instances"), used("apps")), (json!(1), json!(1)), "{quotas:#}");
    let shown = desk.run(&["quotas"]).ok();
    assert!(shown.stdout.contains("DIMENSION") && shown.stdout.contains('%'), "{}", shown.stdout);

    desk.run(&["quotas", "set", "instances=1"]).ok();
    let refused = desk.run(&["scale", "web=3", "--json"]).code_is(5);
    let error = is_documented(&refused.document(), 5, &["scale"]);
    assert_eq!((&error["code"], &error["quota"]["limit"]), (&json!("quota_exceeded"), &json!(1)));

    desk.run(&["apps", "destroy", "tool", "--yes"]).ok();
    assert_eq!(desk.json(&["instances", "list", "--all"])["items"], json!([]));
    let usage = desk.json(&["usage"]);
    let item = &usage["items"][0];
    assert_eq!(item["path"], "default/default/tool@production", "{usage:#}");
    assert_eq!(item["destroyed"], true);
    let explained = desk.json(&["usage", "--explain"]);
    assert_eq!(explained["total"], usage["total"], "{explained:#}");
    assert!(desk.run(&["usage", "--explain"]).ok().stdout.contains("web-1"));

    desk.run(&["deploy"]).ok();
    let endpoints = desk.json(&["endpoints", "list"]);
    let mut exposures = endpoints["items"].as_array().unwrap().iter();
    let is_freed = |it: &serde_json::Value| it["desired"]["exposure"]["host"] == "tool.localhost";
    assert!(exposures.any(is_freed), "{endpoints:#}");
}
