//! What can be typed: every command, every help, what does not exist yet.

use super::*;

/// Every command line of the grammar that is shown in help.
fn shown(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let mut path = path.to_vec();
        path.push(below.get_name().to_owned());
        found.push(path.clone());
        shown(below, &path, found);
    }
}

#[tokio::test]
async fn every_command_has_help_with_examples() {
    let world = World::empty();
    let mut commands = Vec::new();
    shown(&crate::grammar(), &[], &mut commands);
    assert!(commands.len() > 40, "{}", commands.len());
    for command in commands {
        let mut line: Vec<&str> = command.iter().map(String::as_str).collect();
        line.push("--help");
        let outcome = world.helix(&line).await;
        assert_eq!(outcome.code, 0, "{line:?}: {}", outcome.stderr);
        assert!(outcome.stdout.contains("Examples:\n"), "{line:?}: {}", outcome.stdout);
        assert_eq!(outcome.stderr, "", "{line:?}");
    }
}

#[test]
fn the_grammar_holds_together() {
    crate::grammar().debug_assert();
}

#[tokio::test]
async fn what_does_not_exist_yet_says_what_to_do_instead() {
    let world = World::empty();
    let lines: [&[&str]; 5] = [
        &["backups", "create", "data"],
        &["machines", "list"],
        &["nodes", "create", "rack-3"],
        &["login"],
        &["volumes", "attach", "data"],
    ];
    for line in lines {
        let outcome = world.helix(line).await;
        assert_eq!(outcome.code, 2, "{line:?}");
        assert!(outcome.stderr.contains("(not_supported_yet)"), "{line:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: "), "{line:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{line:?}");
    }
    let outcome = world.helix(&["backups", "list", "--json"]).await;
    assert_eq!(outcome.code, 2);
    assert_eq!(outcome.json()["error"]["code"], "not_supported_yet");
    assert_eq!(outcome.stderr, "");
}

#[tokio::test]
async fn a_mistyped_line_is_a_usage_error() {
    let world = World::empty();
    let outcome = world.helix(&["stauts"]).await;
    expect![[r#"
        error: unrecognized subcommand 'stauts' (invalid_argument)

        hint: some similar subcommands exist: 'audit', 'instances', 'status'

        Usage: helix [OPTIONS] <COMMAND>

        `--help` shows more
    "#]]
    .assert_eq(&outcome.stderr);
    assert_eq!(outcome.code, 2);
    let outcome = world.helix(&["scale", "--json"]).await;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (2, ""));
    assert_eq!(outcome.json()["error"]["exit_code"], 2);
}

#[tokio::test]
async fn offline_commands_need_nothing() {
    let world = World::empty();
    let outcome = world.helix(&["explain", "oom_killed"]).await;
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.starts_with("oom_killed: "), "{}", outcome.stdout);
    assert_eq!(world.helix(&["explain", "no_such_code"]).await.code, 4);
    let codes = world.helix(&["explain", "--json"]).await.json();
    assert!(codes["codes"].as_array().unwrap().len() > 30);
    for shell in ["bash", "zsh", "fish"] {
        let outcome = world.helix(&["completion", shell]).await;
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("rollback"), "{shell}");
    }
    let version = world.helix(&["version", "--json", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(version.json()["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version.json()["server"], Value::Null);
    for later in ["--yes", "--no-input"] {
        assert_eq!(world.helix(&["explain", "conflict", later]).await.code, 0, "{later}");
    }
}

#[tokio::test]
async fn validate_points_at_the_line() {
    let world = World::empty();
    let manifest = world.folder().join("helix.toml");
    std::fs::write(
        &manifest,
        "schema_version = \"v1\"\n[processes.web]\nresources.memory = \"1Mi\"\n",
    )
    .unwrap();
    let outcome = world.helix(&["validate"]).await;
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("line 3"), "{}", outcome.stderr);
    let outcome = world.helix(&["validate", "--json"]).await;
    assert_eq!(outcome.json()["error"]["details"][0]["field"], "processes.web.resources.memory");
    std::fs::write(&manifest, "schema_version = \"v1\"\n[processes.web]\n").unwrap();
    assert_eq!(world.helix(&["validate"]).await.code, 0);
    assert_eq!(world.helix(&["validate", "--json"]).await.json()["valid"], true);
}
