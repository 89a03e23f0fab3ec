//! The API held against its own description by a fuzzer of others' making.
//!
//! `schemathesis` reads `docs/openapi.json`, makes requests that are right and
//! requests that are wrong, and compares each answer with what is written. It runs
//! against a whole platform with an app in it. `cargo xtask test` installs it; where
//! it is not, this says so and skips.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use world::World;
use world::platform::Platform;

/// The same requests each time: a failure can be looked at again.
const SEED: &str = "20";

/// Of each operation, in the phase that draws at random. More find little more:
/// what is at the edges is in the other phases, which take no number.
const EXAMPLES: &str = "5";

/// All that schemathesis has but three. `positive_data_acceptance`: whether a name
/// that is well formed also exists is not for a schema to say, and a 404 would
/// count as a refusal. `object_level_authorization` wants a second user's
/// credentials; the matrix of routes and callers in the server's tests is that.
/// `ignored_auth` sends two wrong tokens to every route, and who guesses like that
/// is told 429 by design after twenty, which it takes for a hole; every route is
/// asked without a token and with wrong ones in the server's tests `walk` and
/// `matrix`.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,missing_required_header,unsupported_method,\
                      allow_header_conformance,use_after_free,ensure_resource_availability";

/// What is left out of the document for the run, by the end of the path: these
/// are WebSockets, which the fuzzer does not speak.
const WEB_SOCKETS: [&str; 3] = ["/exec", "/exec/run", "/link"];

/// Long enough on a machine that does three other things; otherwise it is less
/// than a minute.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn every_answer_is_as_described() {
    let found = Command::new("schemathesis").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skip: schemathesis is not installed");
        return;
    }
    let world = World::start([hello()]);
    let begun = Instant::now();
    let output = run(&world);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, 0, "{said}\n(status {})", output.code);
    let summary = said.lines().filter(|line| line.contains("generated"));
    let summary: String = summary.collect();
    assert!(!summary.is_empty(), "nothing was asked: {said}");
    println!("{} in {:.0} s", summary.trim(), begun.elapsed().as_secs_f64());
    // It has not been fuzzed to death.
    world.helix(["admin", "verify-state"]).ok();
}

fn hello() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello")
}

fn run(world: &World) -> world::Output {
    let folder = world.work();
    let document = folder.join("openapi.json");
    std::fs::write(&document, finite(document_as_kept()).to_string()).unwrap();
    // A wait takes as long as it is told to; what `timeout_seconds` may be is
    // tested in `crates/server/tests/api/waits.rs`.
    let settings = folder.join("schemathesis.toml");
    std::fs::write(&settings, "[parameters]\ntimeout_seconds = 0\n").unwrap();
    let context = std::fs::read(world.home().join("config/helix/context.json")).unwrap();
    let context: Value = serde_json::from_slice(&context).unwrap();
    let token = std::fs::read_to_string(world.data().join("token")).unwrap();
    let mut command = Command::new("schemathesis");
    command.arg("--config-file").arg(&settings);
    command.arg("run").arg(&document).args(["--url", context["url"].as_str().unwrap()]);
    command.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    command.args(["--seed", SEED, "--generation-deterministic", "--max-examples", EXAMPLES]);
    command.args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS]);
    command.args(["--request-timeout", "20", "--workers", "1", "--continue-on-failure"]);
    command.args(["--warnings", "off", "--no-color"]);
    command.current_dir(&folder).stdin(Stdio::null());
    Platform::spawn(command).wait_at_most(LIMIT)
}

fn document_as_kept() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The document without what has no end: WebSockets, and streams that follow.
/// Where a path names something that is there, it says so, so that answers of
/// success are looked at too and not only refusals.
fn finite(mut document: Value) -> Value {
    let paths = document["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| !WEB_SOCKETS.iter().any(|end| path.ends_with(end)));
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().unwrap() {
            let parameters = operation["parameters"].as_array_mut().unwrap();
            parameters.retain(|parameter| parameter["name"] != "follow");
            if method == "get" {
                for parameter in parameters {
                    name_what_is_there(path, parameter);
                }
            }
        }
    }
    document
}

fn name_what_is_there(path: &str, parameter: &mut Value) {
    let app = "default/default/hello";
    let example = match (path, parameter["name"].as_str().unwrap()) {
        ("/v1/{kind}/{reference}", "kind") => "releases".to_owned(),
        ("/v1/{kind}/{reference}", "reference") => format!("{app}:v1"),
        ("/v1/orgs/{reference}", "reference") => "default".to_owned(),
        ("/v1/projects/{reference}", "reference") => "default/default".to_owned(),
        ("/v1/apps/{reference}", "reference") => app.to_owned(),
        ("/v1/envs/{env}", "env") => format!("{app}@production"),
        ("/v1/logs" | "/v1/usage" | "/v1/quotas", "org" | "project") => "default".to_owned(),
        ("/v1/logs" | "/v1/usage", "app") => "hello".to_owned(),
        ("/v1/logs" | "/v1/usage", "env") => "production".to_owned(),
        ("/v1/wait", "kind") => "app".to_owned(),
        ("/v1/wait", "ref") => app.to_owned(),
        ("/v1/events", "subject") => format!("app/{app}"),
        _ => return,
    };
    parameter["example"] = json!(example);
}
