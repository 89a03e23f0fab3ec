//! Releases that cannot work, each with one clear reason, while visitors of the
//! good one notice nothing.

use serde_json::Value;

use crate::registry::{FIRST_PAGE, Registry};
use crate::world::http::get;
use crate::world::load::Load;
use crate::world::{Output, Places, World, can_isolate};

/// nginx as it should be. Every bad release is this with something wrong.
const GOOD: &str = r#"
schema_version = "v1"
[app]
name = "site"
[processes.web]
ports = [{ name = "http", internal = 80 }]
resources = { memory = "64Mi" }
health = { type = "http", path = "/", interval_seconds = 1, grace_seconds = 2, failure_threshold = 2 }
restart = { backoff_seconds = 1 }
"#;

/// A site with a good release, and its visitors.
struct Site {
    world: World,
    registry: std::sync::Arc<Registry>,
    places: Places,
    visitors: [(&'static str, Load); 2],
}

impl Site {
    fn open() -> Site {
        let registry = Registry::shared();
        let world = World::start::<&str>([]);
        std::fs::write(world.work().join("good.toml"), GOOD).unwrap();
        let good = ["deploy", "--image", &registry.first, "--manifest", "good.toml"];
        world.helix(good).ok();
        let status = world.json(&world.work(), ["--app", "site", "status"]);
        let places = Places::of(&status).expect("two endpoints");
        let visitors = [
            ("by host name", Load::start(places.http, &places.host)),
            ("by address", Load::start(places.tcp, "site")),
        ];
        Site { world, registry, places, visitors }
    }

    /// Deploys nginx with these lines added to the process.
    fn deploy(&self, lines: &str) -> Output {
        let marker = "[processes.web]\n";
        let text = GOOD.replace(marker, &format!("{marker}{lines}\n"));
        std::fs::write(self.world.work().join("bad.toml"), text).unwrap();
        self.deploy_image(&self.registry.first, "bad.toml")
    }

    fn deploy_image(&self, image: &str, manifest: &str) -> Output {
        self.world.helix(["deploy", "--json", "--image", image, "--manifest", manifest])
    }

    fn status(&self) -> Value {
        self.world.json(&self.world.work(), ["--app", "site", "status"])
    }

    /// The deploy failed for this reason and says so everywhere.
    #[track_caller]
    fn failed_release(&self, output: &Output, reason: &str) -> Value {
        let error = Site::error(output, 1, reason);
        assert_eq!(error["reason"], reason, "{error:#}");
        let status = self.status();
        assert_eq!(status["releases"]["current"], "v1", "{status:#}");
        assert_ne!(status["releases"]["desired"], "v1", "{status:#}");
        assert_eq!(status["deploys"][0]["current"]["phase"], "failed", "{status:#}");
        assert_eq!(status["deploys"][0]["current"]["reason"], reason, "{status:#}");
        assert!(is(&status, "Ready") && is(&status, "Degraded"), "{status:#}");
        let why = status["deploys"][0]["current"]["message"].as_str().expect("a message");
        let difference = status["env"]["difference"].as_str().expect("why the two differ");
        assert!(difference.contains(why), "{status:#}");
        self.keeps_serving();
        error
    }

    /// The request was refused and nothing has changed.
    #[track_caller]
    fn refused(&self, output: &Output, exit_code: i32, code: &str) -> Value {
        let before = self.status();
        let error = Site::error(output, exit_code, code);
        assert_eq!(before["releases"]["current"], "v1");
        self.keeps_serving();
        error
    }

    #[track_caller]
    fn error(output: &Output, exit_code: i32, code: &str) -> Value {
        let output = output.clone().code_is(exit_code);
        let error = output.document()["error"].clone();
        let said = [&error["code"], &error["reason"]];
        assert!(said.contains(&&Value::from(code)), "{code} is not what it says: {error:#}");
        assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no hint: {error:#}");
        assert_eq!(error["exit_code"], exit_code);
        error
    }

    #[track_caller]
    fn keeps_serving(&self) {
        for (_, visitor) in &self.visitors {
            visitor.goes_on(10);
        }
        let page = get(self.places.tcp, "x", "/").unwrap();
        assert!(page.body.contains(FIRST_PAGE), "{page:?}");
    }

    /// Nobody noticed anything, and the site can still be changed.
    fn close(self) {
        self.world.helix(["--app", "site", "rollback", "--to", "v1"]).ok();
        let status = self.status();
        assert_eq!(status["releases"]["desired"], "v1", "{status:#}");
        assert!(is(&status, "Ready") && !is(&status, "Degraded"), "{status:#}");
        for (whose, visitor) in self.visitors {
            visitor.finish().nothing_lost(whose);
        }
    }
}

/// Whether this condition holds for the env.
fn is(status: &Value, condition: &str) -> bool {
    let conditions = status["env"]["conditions"].as_array().expect("conditions");
    conditions.iter().any(|known| known["type"] == condition && known["status"] == true)
}

#[test]
fn a_program_that_ends_at_once_or_cannot_start() {
    if !can_isolate("a_program_that_ends_at_once_or_cannot_start") {
        return;
    }
    let site = Site::open();
    let ended = site.deploy(r#"command = ["sh", "-c", "echo going away; exit 3"]"#);
    let error = site.failed_release(&ended, "workload_exited");
    assert!(error["detail"].as_str().unwrap().contains("v1 keeps serving"), "{error:#}");
    assert!(error["logs"].to_string().contains("going away"), "{error:#}");

    let absent = site.deploy(r#"command = ["/no/such/program"]"#);
    let error = site.failed_release(&absent, "workload_start_failed");
    assert!(error["detail"].as_str().unwrap().contains("/no/such/program"), "{error:#}");
    site.close();
}

#[test]
fn a_program_that_is_never_healthy() {
    if !can_isolate("a_program_that_is_never_healthy") {
        return;
    }
    let site = Site::open();
    let silent = site.deploy(r#"command = ["sleep", "3600"]"#);
    site.failed_release(&silent, "healthcheck_failed");
    site.close();
}

#[test]
fn a_program_that_needs_more_memory_than_it_has() {
    if !can_isolate("a_program_that_needs_more_memory_than_it_has") {
        return;
    }
    let site = Site::open();
    let greedy = site.deploy(r#"command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1G"]"#);
    site.failed_release(&greedy, "oom_killed");
    // The program's own child is the greedy one, and the shell reports it.
    let parent = r#"command = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=1G; exit 1"]"#;
    site.failed_release(&site.deploy(parent), "oom_killed");
    site.close();
}

#[test]
fn an_image_that_is_not_there() {
    if !can_isolate("an_image_that_is_not_there") {
        return;
    }
    let site = Site::open();
    let missing = site.deploy_image(&site.registry.reference("nothing:latest"), "good.toml");
    site.refused(&missing, 1, "image_not_found");
    let untagged = site.deploy_image(&site.registry.reference("nginx:third"), "good.toml");
    site.refused(&untagged, 1, "image_not_found");
    let absent = format!("nginx@sha256:{}", "5a".repeat(32));
    let wrong = site.deploy_image(&site.registry.reference(&absent), "good.toml");
    site.refused(&wrong, 1, "image_not_found");
    let nowhere = site.deploy_image("127.0.0.1:9/nginx:latest", "good.toml");
    site.refused(&nowhere, 6, "registry_unavailable");
    site.close();
}

#[test]
fn a_manifest_with_a_mistake() {
    if !can_isolate("a_manifest_with_a_mistake") {
        return;
    }
    let site = Site::open();
    let misspelt = site.deploy(r#"comand = ["nginx"]"#);
    let error = site.refused(&misspelt, 2, "manifest_invalid");
    assert!(error.to_string().contains("comand"), "{error:#}");
    let detail = error["details"].to_string();
    assert!(detail.contains("6:1") || detail.contains("line 6"), "where is it? {error:#}");
    assert_eq!(site.status()["deploys"].as_array().unwrap().len(), 1, "nothing was accepted");
    site.close();
}
