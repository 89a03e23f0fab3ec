//! Changes, from what is typed to what is asked of the API and told about it.

use super::*;

#[tokio::test]
async fn a_folder_is_built_sent_and_deployed() {
    let (world, wire) = World::with_api().await;
    std::fs::write(world.folder().join("index.html"), "hi").unwrap();
    let outcome = world.helix(&["deploy"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    expect![[r#"
        ok default/default/hello@production is running v1
          http://hello.localhost:8080
          [fd12::1]:80

        target     default/default/hello@production
        release    v1 from hello
        receipt    rcpt_19
        isolation  container (pid, mount and network of its own)
        advice     install a kernel with user namespaces

        next
          helix status
          helix logs -f
          helix scale web=3
    "#]]
    .assert_eq(&outcome.stdout);
    let (path, body) = wire.heard();
    assert_eq!(path, "/v1/deploys");
    let image = body["image"].as_str().unwrap();
    assert!(image.starts_with("helix.internal/default/default/hello@sha256:"), "{image}");
    assert_eq!((&body["port"], &body["manifest"]), (&8080.into(), &Value::Null));
    assert!(outcome.stderr.contains("building "), "{}", outcome.stderr);
    // What was sent can be pulled from the registry under that name.
    let digest = image.rsplit('@').next().unwrap();
    let url = format!("{}/v2/default/default/hello/manifests/{digest}", wire.url);
    assert_eq!(wire::status_of(&url).await, 200);
}

#[tokio::test]
async fn a_deploy_in_json_is_one_document() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["deploy", "--image", "example.net/hello:1", "--json"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    let document = outcome.json();
    assert_eq!(document["receipt"]["id"], "rcpt_19");
    assert_eq!(document["release"]["name"], "v1");
    assert_eq!(document["reachable"][0], "http://hello.localhost:8080");
    assert_eq!(document["isolation"]["kind"], "container");
}

#[tokio::test]
async fn a_failed_deploy_has_one_reason_and_the_last_words() {
    let (world, _wire) = World::with_api().await;
    let line = ["deploy", "--image", "example.net/bad:1", "--app", "hello"];
    let outcome = world.helix(&line).await;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    let error = &outcome.stderr[outcome.stderr.find("error:").unwrap()..];
    expect![[r#"
        error: deploy `d2` of default/default/hello@production failed: web-2 ended with 3; v1 keeps serving (workload_exited)
          web-2 | starting
          web-2 | no such table: pages

        hint: `helix logs` shows what it said last; a server must stay in the foreground
    "#]].assert_eq(error);
    let document = world.helix(&[&line[..], &["--json"]].concat()).await.json();
    assert_eq!(document["error"]["reason"], "workload_exited");
    assert_eq!(document["error"]["logs"][1]["line"], "no such table: pages");
    assert_eq!(document["receipt"]["id"], "rcpt_19");
}

#[tokio::test]
async fn without_waiting_only_the_receipt_is_told() {
    let (world, wire) = World::with_api().await;
    let outcome = world.helix(&["scale", "web=3", "--no-wait"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    expect![[r#"
        accepted deploy.create
          target   default/default/hello@production
          about    deploy default/default/hello@production/d1
          desired  intent deploy, scale web=3
          receipt  rcpt_19

        next
          helix wait deploy/d1
    "#]]
    .assert_eq(&outcome.stdout);
    assert_eq!(
        wire.heard(),
        ("/v1/envs/production/scale".into(), serde_json::json!({"processes": {"web": 3}}))
    );
}

#[tokio::test]
async fn scaling_works_beside_a_deploy_that_failed() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["scale", "web=1"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("1 of 1 instances are ready."), "{}", outcome.stdout);
    assert_eq!(world.helix(&["scale", "web"]).await.code, 2);
    assert_eq!(world.helix(&["scale", "web=1", "web=2"]).await.code, 2);
}

#[tokio::test]
async fn rollback_needs_no_arguments() {
    let (world, wire) = World::with_api().await;
    let outcome = world.helix(&["rollback"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("is running v1"), "{}", outcome.stdout);
    assert_eq!(wire.heard().1["to"], Value::Null);
}

#[tokio::test]
async fn up_saves_the_context_deploys_and_stays_until_told() {
    let _alone = SIGNALS.lock().await;
    let wire = wire::Wire::start().await;
    let world = World::empty();
    std::fs::write(world.folder().join("index.html"), "hi").unwrap();
    let platform = ShortLived { url: wire.url.clone() };
    let line = ["up", ".", "--data-dir", "data"];
    let up = world.helix_with(&line, &platform);
    let told = async {
        // Signalled only once `up` listens for signals, which it does first of
        // all; the saved context is later than that.
        let path = context::path(&world.environment()).unwrap();
        wire::wait_until(|| path.exists() && wire.has_heard()).await;
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    };
    let (outcome, ()) = tokio::join!(up, told);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("draining and stopping"), "{}", outcome.stderr);
    let saved = context::load(&world.environment()).unwrap().unwrap();
    assert_eq!(saved.env.unwrap().as_str(), "production");
    assert_eq!(saved.data_dir.unwrap(), world.folder().join("data"));
    assert_eq!(saved.token.as_deref(), Some(wire::TOKEN));
}

#[tokio::test]
async fn up_ends_with_the_reason_when_nothing_can_serve() {
    let _alone = SIGNALS.lock().await;
    let wire = wire::Wire::start().await;
    let world = World::empty();
    let platform = ShortLived { url: wire.url.clone() };
    let line = ["up", "--image", "example.net/bad:1", "--app", "fresh"];
    let outcome = world.helix_with(&line, &platform).await;
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("(workload_exited)"), "{}", outcome.stderr);
    let invalid = world.helix_with(&["up", "nowhere"], &platform).await;
    assert_eq!(invalid.code, 2);
}

#[tokio::test]
async fn up_resumes_what_was_there() {
    let _alone = SIGNALS.lock().await;
    let wire = wire::Wire::serving(fixture::settled()).await;
    let world = World::empty();
    let platform = ShortLived { url: wire.url.clone() };
    // The very image that serves, by digest: nothing is left to be done.
    let image = format!("helix.internal/default/default/hello@sha256:{:064x}", 1);
    let line = ["up", "--image", &image, "--port", "8080", "--json"];
    let up = world.helix_with(&line, &platform);
    let told = async {
        wire::wait_until(|| wire.has_been_waited_on()).await;
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    };
    let (outcome, ()) = tokio::join!(up, told);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(!wire.has_heard(), "it was deployed again");
    assert!(outcome.stderr.contains("is as it was"), "{}", outcome.stderr);
}
