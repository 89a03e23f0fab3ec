//! A state file into an empty installation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use helix_model::{Kind, Role, reference};
use helix_server::{Engine, ImportError, StateImportError, Storage, Writers};
use serde_json::Value;

use crate::cluster::Cluster;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moving/state-file.json")
}

async fn check(storage: &Storage) {
    let engine = Engine::start(Arc::clone(&storage.log), Writers::One).await.unwrap();
    let state = engine.state();
    let find = |kind, path| reference::resolve(&state, kind, path, &reference::Scope::default());
    let env = find(Kind::Env, "acme/default/shop@production").unwrap().typed().unwrap();
    let env = state.envs.get(env).unwrap();
    assert_eq!(env.spec.scale.values().copied().collect::<Vec<_>>(), [3]);
    let release = state.releases.get(env.spec.release.unwrap()).unwrap();
    assert!(release.spec.image.digest.ends_with("1111"), "{:?}", release.spec.image);
    assert_eq!(release.spec.source, "nginx 1.27");
    let hosts: Vec<_> = state.endpoints.iter().map(|it| it.spec.exposure.clone()).collect();
    assert!(format!("{hosts:?}").contains("shop.example.com"), "{hosts:?}");
    find(Kind::Env, "acme/default/shop@staging").unwrap();
    find(Kind::App, "acme/internal/wiki").unwrap();
    find(Kind::Project, "beta/default").unwrap();
    let owner = state.members.iter().find(|it| it.name.as_str() == "ann").unwrap();
    assert_eq!(owner.spec.role, Role::Owner);
    let orgs = state.orgs.iter().count();
    assert_eq!(orgs, 2, "no org but those of the file");
    let (same, position) = engine.verify_state().await.unwrap();
    assert!(same, "at {position}");
}

#[tokio::test]
async fn an_installation_is_made_as_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let moved = Storage::import_state_directory(dir.path(), &fixture()).await.unwrap();
    let again = Storage::import_state_directory(dir.path(), &fixture()).await.unwrap_err();
    let StateImportError::Target(ImportError::NotEmpty { .. }) = again else {
        panic!("{again:?}");
    };
    let storage = Storage::open_directory(dir.path()).await.unwrap();
    assert_eq!(storage.log.head().await.unwrap().position.0, moved.events);
    check(&storage).await;
}

#[tokio::test]
async fn the_same_in_postgresql() {
    let Some(cluster) = Cluster::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = cluster.create_database();
    Storage::import_state_database(&url, &fixture()).await.unwrap();
    check(&Storage::connect(&url, dir.path()).await.unwrap()).await;
}

/// The fixture with one thing changed, refused for this.
async fn refused(pointer: &str, value: Value) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut document: Value = serde_json::from_slice(&std::fs::read(fixture()).unwrap()).unwrap();
    *document.pointer_mut(pointer).unwrap() = value;
    let file = dir.path().join("state.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let target = dir.path().join("target");
    let error = Storage::import_state_directory(&target, &file).await.unwrap_err();
    assert!(!target.exists(), "nothing was made");
    match error {
        StateImportError::Document { source, .. } => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_would_be_refused_by_hand_is_refused_here_by_its_place() {
    let told = refused("/orgs/1/name", "acme".into()).await;
    assert_eq!(told, "orgs[1].name: there is already an org `acme`");
    let told = refused("/orgs/0/projects/1/name", "default".into()).await;
    assert_eq!(told, "orgs[0].projects[1].name: `default` is there already");
    let env = "orgs[0].projects[0].apps[0].envs";
    let told = refused("/orgs/0/projects/0/apps/0/envs/1/name", "production".into()).await;
    assert_eq!(told, format!("{env}[1].name: there is already an env `production`"));
    let told = refused("/orgs/0/members/1/user", "eve".into()).await;
    assert_eq!(told, "orgs[0].members[1].user: `eve` is not among `users`");
    let scale = "/orgs/0/projects/0/apps/0/envs/0/scale";
    let told = refused(scale, serde_json::json!({ "worker": 1 })).await;
    assert!(told.starts_with(&format!("{env}[0].scale: v1 has no process `worker`")), "{told}");
    let told = refused("/orgs/0/domains/0", "example.org".into()).await;
    assert!(told.starts_with(&format!("{env}[0].release: ")), "{told}");
    assert!(told.contains("shop.example.com"), "{told}");
    let told = refused("/orgs/0/domains/0", "a..b".into()).await;
    assert!(told.starts_with("orgs[0].domains[0]: `a..b` is not a domain name"), "{told}");
    let told = refused("/orgs/0/quotas/memory", (1 << 20).into()).await;
    assert!(told.starts_with(&format!("{env}[0].release: ")), "{told}");
    assert!(told.contains("memory"), "{told}");
}
