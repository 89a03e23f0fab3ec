//! What is shown of what there is.

use super::*;

#[tokio::test]
async fn status_is_one_screen() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["status"]).await;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    expect![[r#"
        default/default/hello@production  ready
          release     v1 serves, v2 is desired
          address     fd12::1
          difference  d2 failed: web-2 ended with 3

        PROCESS  READY  DESIRED
        web      1      1

        INSTANCE  RELEASE  PHASE   RESTARTS  AGE   NODE   REASON
        web-1     v1       ready   0          local
        web-2     v2       failed  4          local  it ended with 3

        ENDPOINT  PROCESS  DECLARED              REACHABLE AT                              AGE   PROBLEM
        http      web      http hello.localhost  http://hello.localhost:8080 [fd12::1]:80

        DEPLOY  RELEASE  INTENT  PHASE      AGE   REASON
        d2      v2       deploy  failed      web-2 ended with 3
        d1      v1       deploy  succeeded
    "#]].assert_eq(&without_ages(&outcome.stdout));
    let document = world.helix(&["status", "--json"]).await.json();
    assert_eq!(document["releases"]["desired"], "v2");
    assert_eq!(document["releases"]["current"], "v1");
    assert_eq!(document["processes"][0]["ready"], 1);
    assert_eq!(document["deploys"][0]["name"], "d2");
}

#[tokio::test]
async fn status_of_nothing_is_friendly() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["status", "--app", "other"]).await;
    assert_eq!(outcome.code, 0);
    expect![[r#"
        nothing is deployed at default/default/other@production yet

        next
          helix deploy
          helix envs list --all
    "#]]
    .assert_eq(&outcome.stdout);
    assert_eq!(
        world.helix(&["status", "--app", "other", "--json"]).await.json()["env"],
        Value::Null
    );
}

#[tokio::test]
async fn every_kind_lists_and_describes_alike() {
    let (world, _wire) = World::with_api().await;
    let kinds = [
        ("orgs", "default"),
        ("projects", "default"),
        ("apps", "hello"),
        ("envs", "production"),
        ("releases", "v1"),
        ("deploys", "d2"),
        ("instances", "web-1"),
        ("endpoints", "http"),
        ("nodes", "local"),
        ("edges", "front"),
    ];
    for (kind, name) in kinds {
        let listed = world.helix(&[kind, "list"]).await;
        assert_eq!(listed.code, 0, "{kind}: {}", listed.stderr);
        assert!(listed.stdout.contains(name), "{kind}: {}", listed.stdout);
        let page = world.helix(&[kind, "list", "--json"]).await.json();
        assert!(!page["items"].as_array().unwrap().is_empty(), "{kind}");
        let described = world.helix(&[kind, "describe", name]).await;
        assert_eq!(described.code, 0, "{kind}: {}", described.stderr);
        assert!(described.stdout.contains("conditions\n"), "{kind}: {}", described.stdout);
        let document = world.helix(&[kind, "describe", name, "--json"]).await.json();
        assert_eq!(document["name"], name);
        let events = world.helix(&[kind, "events", name, "--json"]).await;
        assert_eq!(events.code, 0, "{kind}: {}", events.stderr);
    }
}

#[tokio::test]
async fn lists_have_the_columns_people_look_for() {
    let (world, _wire) = World::with_api().await;
    let mut screens = String::new();
    for kind in ["apps", "envs", "releases", "deploys", "instances", "endpoints", "nodes", "edges"]
    {
        screens.push_str(&without_ages(&world.helix(&[kind, "list"]).await.stdout));
        screens.push('\n');
    }
    expect![[r#"
        NAME   PATH                   STATE      AGE
        hello  default/default/hello  all_ready

        ENV                               SERVING  DESIRED  ADDRESS  AGE   DIFFERENCE
        default/default/hello@production  v1       v2       fd12::1   d2 failed: web-2 ended with 3

        RELEASE  APP                    SOURCE  IMAGE                AGE
        v1       default/default/hello  hello   sha256:000000000000
        v2       default/default/hello  hello   sha256:000000000000

        DEPLOY  RELEASE  INTENT  PHASE      AGE   REASON
        d1      v1       deploy  succeeded
        d2      v2       deploy  failed      web-2 ended with 3

        INSTANCE  RELEASE  PHASE   RESTARTS  AGE   NODE   REASON
        web-1     v1       ready   0          local
        web-2     v2       failed  4          local  it ended with 3

        ENDPOINT  PROCESS  DECLARED              REACHABLE AT                              AGE   PROBLEM
        http      web      http hello.localhost  http://hello.localhost:8080 [fd12::1]:80

        NODE   CONNECTED  USE     ISOLATION  CPUS  MEMORY  VERSION  AGE
        local  yes        active  container  2     1Gi     0.1.0

        EDGE   CONNECTED  HTTP       HTTPS      VERSION  AGE
        front  yes        [::]:8080  [::]:8443  0.1.0

    "#]].assert_eq(&screens);
}

#[tokio::test]
async fn describe_takes_paths_names_and_ids() {
    let (world, _wire) = World::with_api().await;
    let id = fixture::id::<helix_model::Instance>(2).to_string();
    let lines: [&[&str]; 4] = [
        &["describe", "instance/web-2"],
        &["describe", "instance", "web-2"],
        &["describe", "instances/default/default/hello@production/web-2"],
        &["describe", &id],
    ];
    let first = world.helix(lines[0]).await.stdout;
    let steady: String =
        first.lines().filter(|line| !line.contains(" ago)")).collect::<Vec<_>>().join("\n");
    expect![[r#"
        instance default/default/hello@production/web-2
          id       ins_01KG9YS7G00000000000000002
          version  20

        not as desired: it ended with 3

        conditions
          TYPE         STATUS  REASON           SINCE  MESSAGE
          Ready        no      workload_exited    it ended with 3
          Reconciling  yes     workload_exited    it ended with 3
          Degraded     yes     workload_exited    it ended with 3

        desired
          address: fd12:0:0:1::1
          deploy: dep_01KG9YS7G00000000000000002
          desired: running
          env: env_01KG9YS7G00000000000000001
          memory_bytes: 268435456
          node: nod_01KG9YS7G00000000000000001
          org: org_01KG9YS7G00000000000000001
          process: web
          release: rel_01KG9YS7G00000000000000002

        current
          isolation: container
          message: it ended with 3
          phase: failed
          reason: workload_exited
          restarts: 4
    "#]]
    .assert_eq(&without_ages(&steady));
    for line in lines {
        let outcome = world.helix(line).await;
        assert_eq!(outcome.code, 0, "{line:?}: {}", outcome.stderr);
        assert!(
            outcome.stdout.starts_with("instance default/default/hello@production/web-2\n"),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn logs_are_lines_in_both_forms() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["logs"]).await;
    assert_eq!(outcome.stdout, "web-1 | starting\nweb-1 | no such table: pages\n");
    let outcome = world.helix(&["logs", "--json"]).await;
    for line in outcome.stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["type"], "log");
    }
    assert_eq!(outcome.stdout.lines().count(), 2);
    assert_eq!(world.helix(&["logs", "--since", "yesterday"]).await.code, 2);
}

#[tokio::test]
async fn wait_tells_ready_from_failed() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["wait", "deploy/d1"]).await;
    assert_eq!(outcome.code, 0);
    assert_eq!(outcome.stdout, "ok deploy default/default/hello@production/d1: It serves.\n");
    let outcome = world.helix(&["wait", "deploy/d2", "--json"]).await;
    assert_eq!(outcome.code, 1);
    let document = outcome.json();
    assert_eq!(document["error"]["reason"], "workload_exited");
    assert_eq!(document["resource"]["name"], "d2");
    let outcome = world.helix(&["wait", "instance/web-2", "--timeout", "0"]).await;
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
}

#[tokio::test]
async fn doctor_checks_one_by_one() {
    let (world, wire) = World::with_api().await;
    let outcome = world.helix(&["doctor"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    expect![[r#"
        ok program: helix 0.1.0
        ok context: leads to URL
        ok api: URL answers, version 0.1.0 (API v1)
        ok auth: the token is accepted
        ok node: local isolates as container: pid, mount and network of its own
           hint: install a kernel with user namespaces
        -  builders: none of them is installed; folders of files and executables work without
           hint: to build Dockerfiles install `buildah` or `podman`, or start docker
        -  manifest: there is no helix.toml here
    "#]]
    .assert_eq(&outcome.stdout.replace(&wire.url, "URL"));
    let mut world = World::empty();
    world.set("HELIX_URL", "http://127.0.0.1:1");
    let outcome = world.helix(&["doctor", "--json"]).await;
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.json()["ok"], false);
}
