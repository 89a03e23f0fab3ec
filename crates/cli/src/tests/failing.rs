//! How commands fail: exit codes, and errors in both forms.

use super::*;
use crate::failure::Failure;

#[test]
fn each_code_has_its_exit_code_in_both_forms() {
    let expected = |code: Code| match code {
        Code::InvalidArgument
        | Code::ManifestInvalid
        | Code::NotSupportedYet
        | Code::MethodNotAllowed
        | Code::PayloadTooLarge => 2,
        Code::Unauthorized
        | Code::AnonymousTunnel
        | Code::Forbidden
        | Code::AccessDenied
        | Code::ExpiredToken => 3,
        Code::AuthorizationPending | Code::SlowDown => 6,
        Code::NotFound => 4,
        Code::Conflict
        | Code::NameTaken
        | Code::HostTaken
        | Code::VersionConflict
        | Code::NotEmpty
        | Code::QuotaExceeded
        | Code::BeingDestroyed
        | Code::DomainUnproven
        | Code::DomainTaken
        | Code::DomainInUse
        | Code::PortDenied
        | Code::Ipv4NotEnabled
        | Code::Ipv4InUse
        | Code::Ipv4PoolExhausted
        | Code::Ipv6PoolExhausted
        | Code::TunnelNameTaken
        | Code::TunnelDisabled
        | Code::TunnelPortsExhausted
        | Code::VolumeInUse
        | Code::VolumeReplicaLimit
        | Code::SnapshotInProgress
        | Code::IdempotencyKeyReuse
        | Code::PreconditionFailed
        | Code::SecretsMissing
        | Code::ReleasePolicy => 5,
        Code::NoEdgeForTunnels
        | Code::RateLimited
        | Code::Unavailable
        | Code::TimedOut
        | Code::RegistryUnavailable => 6,
        Code::WorkloadFailed | Code::ImageNotFound | Code::ImageUnusable | Code::BuildFailed => 1,
        Code::Internal => 7,
    };
    for code in Code::ALL {
        let failure = Failure::new(*code, "it went wrong");
        assert_eq!(failure.exit_code, expected(*code), "{code}");
        assert_eq!(failure.document()["error"]["exit_code"], expected(*code), "{code}");
        assert_eq!(failure.document()["error"]["code"], code.as_str());
    }
}

#[tokio::test]
async fn an_api_that_is_not_there_is_transient() {
    let mut world = World::empty();
    world.set("HELIX_URL", "http://127.0.0.1:1");
    world.set("HELIX_ENV", "production");
    let outcome = world.helix(&["status"]).await;
    assert_eq!(outcome.code, 6);
    assert!(
        outcome.stderr.starts_with("error: cannot reach the API at http://127.0.0.1:1: "),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("helix up"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
}

#[tokio::test]
async fn a_missing_env_names_the_flag() {
    let world = World::empty();
    let outcome = world.helix(&["status"]).await;
    assert_eq!(outcome.code, 2);
    expect![[r#"
        error: which env? none was given, and none is guessed (invalid_argument)

        hint: add `--env NAME` or set HELIX_ENV
    "#]]
    .assert_eq(&outcome.stderr);
}

#[tokio::test]
async fn a_wrong_token_is_an_auth_error() {
    let (mut world, _wire) = World::with_api().await;
    world.set("HELIX_TOKEN", "wrong");
    let outcome = world.helix(&["apps", "list", "--json"]).await;
    assert_eq!(outcome.code, 3);
    assert_eq!(outcome.json()["error"]["code"], "unauthorized");
    assert!(!outcome.stdout.contains("wrong"));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["describe", "instance/web-9"]).await;
    assert_eq!(outcome.code, 4);
    expect![[r#"
        error: there is no instance `web-9` (not_found)

        hint: `helix instances list` shows what there is
    "#]]
    .assert_eq(&outcome.stderr);
    assert_eq!(world.helix(&["describe", "gadget/x"]).await.code, 2);
}

#[tokio::test]
async fn a_broken_context_is_named_and_up_does_not_mind() {
    let _alone = SIGNALS.lock().await;
    let world = World::empty();
    let path = context::path(&world.environment()).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{").unwrap();
    let outcome = world.helix(&["apps", "list"]).await;
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("context.json"), "{}", outcome.stderr);
    assert!(world.helix(&["up"]).await.stderr.contains("no platform in this test"));
}

#[test]
fn the_context_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::empty();
    let context = Context {
        url: "http://127.0.0.1:7420".into(),
        token: Some("secret".into()),
        org: None,
        project: None,
        env: None,
        data_dir: None,
        logins: std::collections::BTreeMap::new(),
    };
    let path = context::save(&world.environment(), &context).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(context::load(&world.environment()).unwrap(), Some(context.clone()));
    assert!(!format!("{context:?}").contains("secret"));
}

#[tokio::test]
async fn exec_returns_the_remote_code() {
    let (world, _wire) = World::with_api().await;
    let outcome = world.helix(&["exec", "web-1", "--", "id", "-u"]).await;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (3, "id -u false\n"));
    assert_eq!(outcome.stderr, "");
    let outcome = world.helix(&["exec", "-n", "--json", "--", "id"]).await;
    assert_eq!(outcome.code, 3);
    let lines: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["data"], "id false\n");
    assert_eq!((&lines[1]["type"], &lines[1]["exit_code"]), (&"exit".into(), &3.into()));
}

#[tokio::test]
async fn exec_that_never_started_is_255() {
    let (world, _wire) = World::with_api().await;
    for (instance, code) in [("web-9", "not_found"), ("web-2", "instance_gone")] {
        let outcome = world.helix(&["exec", instance, "--", "true"]).await;
        assert_eq!(outcome.code, 255, "{instance}");
        assert!(outcome.stderr.contains(code), "{instance}: {}", outcome.stderr);
    }
    let outcome = world.helix(&["exec", "web-9", "--json", "--", "true"]).await;
    assert_eq!(outcome.code, 255);
    assert_eq!(outcome.json()["error"]["code"], "not_found");
    assert_eq!(outcome.json()["error"]["exit_code"], 255);
}
