//! Exit codes, each reached the way it is reached in life.

use std::net::TcpListener;

use crate::desk::{Desk, MANIFEST, PROGRAM, is_documented, is_told};

#[test]
fn each_code_has_its_situation() {
    let desk = Desk::empty();
    let fails = |code: i32, words: &[&str]| fails(&desk, &[], code, words);

    // 2: what was typed or written.
    assert_eq!(fails(2, &["status", "--colour"]), "invalid_argument");
    assert_eq!(fails(2, &["scale", "web"]), "invalid_argument");
    std::fs::write(desk.folder.join("bad.toml"), MANIFEST.replace("64Mi", "64Kb")).unwrap();
    assert_eq!(fails(2, &["deploy", "--manifest", "bad.toml"]), "manifest_invalid");
    assert_eq!(fails(2, &["validate", "bad.toml"]), "manifest_invalid");

    // 4: nothing of that name, also before the first deploy.
    assert_eq!(fails(4, &["describe", "app/tool"]), "not_found");
    assert_eq!(fails(4, &["scale", "web=1"]), "not_found");
    assert_eq!(fails(4, &["rollback"]), "not_found");
    desk.run(&["status"]).ok();

    desk.run(&["deploy"]).ok();
    // 5: no release served before this one.
    assert_eq!(fails(5, &["rollback"]), "precondition_failed");
    assert_eq!(fails(2, &["scale", "worker=1"]), "invalid_argument");
    // 5 as well: it is not what was seen any more.
    assert_eq!(fails(5, &["scale", "web=1", "--expected-version", "1"]), "version_conflict");
    assert_eq!(fails(5, &["deploy", "--expected-version", "1"]), "version_conflict");
    let env = desk.json(&["describe", "env/production"])["version"].to_string();
    desk.run(&["scale", "web=1", "--expected-version", &env]).ok();

    // 1: the program ends at once; what served goes on.
    let failing = MANIFEST
        .replace("[processes.web]", "[processes.web]\ncommand = [\"/app/tool\", \"exit\", \"3\"]");
    let failing = format!("{failing}restart = {{ backoff_seconds = 1 }}\n");
    std::fs::write(desk.folder.join("failing.toml"), failing).unwrap();
    assert_eq!(fails(1, &["deploy", "--manifest", "failing.toml"]), "workload_failed");
    assert_eq!(fails(1, &["wait", "deploy/d2"]), "workload_failed");
    assert_eq!(desk.json(&["status"])["processes"][0]["ready"], 1);

    // 6: not in the time given.
    let slow = MANIFEST.replace("path = \"/\"", "path = \"/later\", grace_seconds = 600");
    std::fs::write(desk.folder.join("slow.toml"), slow).unwrap();
    let accepted = desk.run(&["deploy", "--manifest", "slow.toml", "--no-wait", "--json"]).ok();
    assert!(accepted.document()["receipt"]["id"].is_string());
    let deploy =
        desk.json(&["deploys", "list"])["items"].as_array().unwrap().last().unwrap().clone();
    let subject = format!("deploy/{}", deploy["name"].as_str().unwrap());
    assert_eq!(fails(6, &["wait", &subject, "--timeout", "1s"]), "timed_out");
}

#[test]
fn a_wrong_token_is_3_and_a_server_that_is_away_is_6() {
    let desk = Desk::empty();
    let wrong = [("HELIX_TOKEN", "hlx_not_a_token")];
    let nothing = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", nothing.local_addr().unwrap());
    drop(nothing);
    let commands: [&[&str]; 9] = [
        &["status"],
        &["scale", "web=1"],
        &["rollback"],
        &["deploy"],
        &["events"],
        &["logs"],
        &["apps", "list"],
        &["describe", "app/tool"],
        &["wait", "app/tool"],
    ];
    for words in commands {
        assert_eq!(fails(&desk, &wrong, 3, words), "unauthorized", "{words:?}");
        let code = fails(&desk, &[("HELIX_URL", &away)], 6, words);
        assert_eq!(code, "unavailable", "{words:?}");
    }
    // Nothing ran, so it is no exit code of the program's.
    desk.run_with(&wrong, &["exec", "--", PROGRAM]).code_is(255);
    desk.run_with(&[("HELIX_URL", &away)], &["exec", "--", PROGRAM]).code_is(255);
}

#[test]
fn exec_answers_as_the_program_does() {
    let desk = Desk::with_app();
    for code in ["0", "1", "2", "42", "254"] {
        let expected: i32 = code.parse().unwrap();
        let output = desk.run(&["exec", "--", PROGRAM, "exit", code]).code_is(expected);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    }
    let said = desk.run(&["exec", "--", PROGRAM, "say"]).ok();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    let lines = desk.run(&["exec", "--json", "--", PROGRAM, "exit", "42"]).code_is(42).lines();
    assert_eq!(lines.last().unwrap()["exit_code"], 42);

    for words in [
        &["exec", "--", "/no/such/program"] as &[&str],
        &["exec", "web-99", "--", PROGRAM],
        &["exec", "--process", "worker", "--", PROGRAM],
        &["exec", "--app", "nothing", "--", PROGRAM],
    ] {
        is_told(&desk.run(words).code_is(255), words);
    }
    // What follows `--` is the program's, also when it looks like ours.
    let output = desk.run(&["exec", "--", PROGRAM, "exit", "7", "--json", "--help"]).code_is(7);
    assert_eq!(output.stdout, "");
}

#[test]
fn a_command_ends_when_its_time_is_over_and_the_trail_says_who_ran_what() {
    let desk = Desk::with_app();
    let words = ["exec", "--max-time", "1s", "--", PROGRAM, "wait"];
    let output = desk.run(&words).code_is(255);
    assert!(output.stderr.contains("its time was over"), "{}", output.stderr);
    let trail = desk.run(&["audit", "list", "--json"]).ok();
    let trail: serde_json::Value = serde_json::from_str(&trail.stdout).unwrap();
    let said = |operation: &str, field: &str| {
        let items = trail["items"].as_array().unwrap();
        let found = items.iter().find(|line| line["operation"] == operation);
        found.unwrap_or_else(|| panic!("no {operation} in {trail}"))[field].clone()
    };
    assert_eq!(said("exec", "detail"), format!(r#"["{PROGRAM}","wait"]"#));
    assert_eq!(said("exec_ended", "reason"), "timeout");
    desk.run(&["exec", "--max-time", "25h", "--", PROGRAM, "say"]).code_is(255);
}

/// Fails in both forms; the code scripts see.
#[track_caller]
fn fails(desk: &Desk, variables: &[(&str, &str)], code: i32, words: &[&str]) -> String {
    is_told(&desk.run_with(variables, words).code_is(code), words);
    let scripts = desk.run_with(variables, &[words, &["--json"]].concat()).code_is(code);
    let error = is_documented(&scripts.document(), code, words);
    error["code"].as_str().unwrap().to_owned()
}
