//! What is set of an env apart from its helix.toml: each change is a release that is seen
//! before it is made, stays through deploys, and is undone by going back.

use serde_json::Value;

use crate::desk::{Desk, PROGRAM};

/// The variables of the release that serves, by process and name.
fn variable(desk: &Desk, name: &str) -> Option<Value> {
    let vars = desk.json(&["env", "list"]);
    let found = vars["items"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    found.map(|it| it["value"].clone())
}

fn memory(desk: &Desk) -> Value {
    let release = desk.json(&["status"])["releases"]["current"].clone();
    let release = desk.json(&["releases", "describe", release.as_str().unwrap()]);
    release["desired"]["manifest"]["processes"]["web"]["resources"]["memory_bytes"].clone()
}

#[test]
fn a_variable_reaches_the_program_and_stays_through_deploys_until_it_is_taken_back() {
    let desk = Desk::with_app();
    let told = desk.run(&["env", "set", "GREETING=hello"]).ok();
    assert!(told.stderr.contains("+ processes.web.vars.GREETING  hello"), "{}", told.stderr);
    let printed = desk.run(&["exec", "--", PROGRAM, "env", "GREETING"]).ok().stdout;
    assert_eq!(printed.trim(), "hello");

    let status = desk.run(&["status"]).ok().stdout;
    assert!(status.contains("set apart  processes.web.vars.GREETING"), "{status}");
    let diff = desk.run(&["diff"]).ok().stdout;
    assert!(diff.contains("is as here") && diff.contains("set of this env"), "{diff}");

    desk.run(&["deploy"]).ok();
    assert_eq!(variable(&desk, "GREETING"), Some("hello".into()), "it stays");
    let again = desk.run(&["env", "set", "GREETING=hello"]).ok().stdout;
    assert!(again.contains("has that already"), "{again}");

    desk.run(&["env", "unset", "GREETING"]).ok();
    assert_eq!(variable(&desk, "GREETING"), None);
    desk.run(&["rollback"]).ok();
    assert_eq!(variable(&desk, "GREETING"), Some("hello".into()), "with the release it is back");
}

#[test]
fn a_change_of_resources_is_planned_and_done_as_planned_or_not_at_all() {
    let desk = Desk::with_app();
    let plan = desk.json(&["resize", "web", "--memory", "128Mi", "--plan"]);
    assert_eq!(plan["changes"][0]["field"], "processes.web.resources.memory", "{plan:#}");
    assert_eq!(memory(&desk), 64 << 20, "a plan changes nothing");
    desk.run(&["apply", plan["plan"].as_str().unwrap()]).ok();
    assert_eq!(memory(&desk), 128 << 20);
    desk.run(&["apply", plan["plan"].as_str().unwrap()]).code_is(5);

    // What is set stays where it was set.
    desk.run(&["releases", "promote", "v2", "--env", "staging"]).ok();
    let staging = desk.json(&["status", "--env", "staging"]);
    assert_eq!(staging["set_apart"], serde_json::json!([]), "{staging:#}");

    desk.run(&["resize", "web", "--memory", "manifest"]).ok();
    assert_eq!(memory(&desk), 64 << 20);
}

#[test]
fn what_no_program_could_be_given_is_refused_with_the_field() {
    let desk = Desk::with_app();
    let small = desk.run(&["resize", "web", "--memory", "1Mi"]).code_is(2);
    assert!(small.stderr.contains("processes.web.memory: at least 64Mi"), "{}", small.stderr);
    let none = desk.run(&["env", "set", "A=1", "--process", "none"]).code_is(2);
    assert!(none.stderr.contains("has no process `none`; it has web"), "{}", none.stderr);
    desk.run(&["env", "set", "lower=1"]).code_is(2);
    let nothing = desk.run(&["env", "set", "A=1", "--env", "empty"]).code_is(4);
    assert!(nothing.stderr.contains("empty"), "{}", nothing.stderr);
    assert_eq!(desk.json(&["releases", "list"])["items"].as_array().unwrap().len(), 1);
}
