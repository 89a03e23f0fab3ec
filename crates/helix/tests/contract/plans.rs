//! Plans: what a deploy would change is seen before it does, and nothing else happens.

use crate::desk::{Desk, MANIFEST};

/// The app with twice the memory and a variable.
fn larger() -> String {
    let larger = MANIFEST.replacen("64Mi", "128Mi", 1);
    assert_ne!(larger, MANIFEST);
    larger.replacen("[processes.web]", "[processes.web]\nvars = { GREETING = \"hello\" }", 1)
}

#[test]
fn a_plan_shows_what_would_change_and_is_done_as_it_is_or_not_at_all() {
    let desk = Desk::with_app();
    let same = desk.run(&["diff"]).ok().stdout;
    assert!(same.contains("is as here"), "{same}");

    std::fs::write(desk.folder.join("helix.toml"), larger()).unwrap();
    let told = desk.run(&["diff"]).ok().stdout;
    assert!(told.contains("~ processes.web.resources.memory  64Mi → 128Mi"), "{told}");
    assert!(told.contains("+ processes.web.vars.GREETING     hello"), "{told}");

    let before = desk.json(&["envs", "describe", "production"]);
    let plan = desk.json(&["deploy", "--plan"]);
    let name = plan["plan"].as_str().unwrap();
    let changed: Vec<_> =
        plan["changes"].as_array().unwrap().iter().map(|it| &it["field"]).collect();
    assert!(changed.contains(&&"processes.web.resources.memory".into()), "{plan:#}");
    assert_eq!(plan["effects"][0], "web: 1 instance is replaced, once its successor is ready");
    let after = desk.json(&["envs", "describe", "production"]);
    assert_eq!(before, after, "a plan changes nothing");
    let shown = desk.run(&["deploy", "--plan"]).ok().stdout;
    assert!(shown.contains("helix apply default/default/tool@production:v3:"), "{shown}");

    let applied = desk.json(&["apply", name]);
    assert_eq!(applied["release"]["name"], "v2", "{applied:#}");
    let again = desk.run(&["apply", name]).code_is(5);
    assert!(again.stderr.contains("(version_conflict)"), "the world moved: {}", again.stderr);

    let between = desk.run(&["releases", "diff", "v1", "v2"]).ok().stdout;
    assert!(between.contains("64Mi → 128Mi"), "{between}");
    let none = desk.run(&["releases", "diff", "v2", "v3"]).ok().stdout;
    assert!(none.contains("the same image and manifest"), "{none}");
    let back = desk.run(&["diff", "--release", "v1"]).ok().stdout;
    assert!(back.contains("128Mi → 64Mi"), "{back}");
}

#[test]
fn a_release_is_promoted_from_one_env_to_another() {
    let desk = Desk::with_app();
    let plan = desk.json(&["deploy", "--plan", "--env", "staging"]);
    assert!(plan["plan"].as_str().unwrap().ends_with("@staging:v2:0"), "{plan:#}");
    let image = &plan["release"]["desired"]["image"]["digest"];
    let promoted = desk.json(&["releases", "promote", "v2", "--env", "staging"]);
    assert_eq!(promoted["target"], "default/default/tool@staging");
    assert_eq!(&promoted["release"]["desired"]["image"]["digest"], image);
    let late = desk.run(&["apply", plan["plan"].as_str().unwrap()]).code_is(5);
    assert!(late.stderr.contains("there is an env `staging` by now"), "{}", late.stderr);
}
