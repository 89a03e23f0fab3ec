//! Composed images: the same every time, and what they should be when unpacked.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::rootfs::rootfs;

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    World { directory, store }
}

fn file(path: &str, content: &str) -> ComposeFile {
    let source = FileSource::Bytes(content.as_bytes().to_vec());
    ComposeFile { path: path.to_owned(), source, mode: 0o644 }
}

fn config() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/bin/app".to_owned()],
        env: vec!["A=b".to_owned()],
        exposed_ports: (1..20).map(|port| format!("{port}/tcp")).collect(),
        labels: (0..20).map(|n| (format!("label-{n}"), "x".to_owned())).collect::<BTreeMap<_, _>>(),
        ..ImageConfig::default()
    }
}

#[tokio::test]
async fn the_same_input_gives_the_same_digest_in_any_order_and_store() {
    let files = vec![file("/etc/a", "1"), file("/etc/b/c", "2"), file("/z", "3")];
    let reversed = files.iter().rev().cloned().collect();
    let (first, second) = (world(), world());
    let a = compose(&first.store, vec![ComposeLayer::Files(files.clone())], config()).await;
    let b = compose(&second.store, vec![ComposeLayer::Files(reversed)], config()).await;
    let again = compose(&first.store, vec![ComposeLayer::Files(files)], config()).await;
    let a = a.unwrap();
    assert_eq!((b.unwrap(), again.unwrap()), (a, a));
}

#[tokio::test]
async fn a_folder_gives_the_same_digest_whatever_its_times_and_modes() {
    let world = world();
    let mut digests = Vec::new();
    for (name, mode) in [("one", 0o600), ("two", 0o664)] {
        let root = world.directory.path().join(name);
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/page.html"), "hi").unwrap();
        std::fs::set_permissions(root.join("sub/page.html"), std::fs::Permissions::from_mode(mode))
            .unwrap();
        let folder = Folder::list(&root, &|_, _| false).unwrap();
        let layer = ComposeLayer::Tree { folder, below: "/srv".to_owned() };
        digests.push(compose(&world.store, vec![layer], config()).await.unwrap());
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn a_composed_image_unpacks_to_its_files_and_config() {
    let world = world();
    let long = format!("/{}/file", "directory-name/".repeat(20).trim_end_matches('/'));
    let script = world.directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh").unwrap();
    let layers = vec![
        ComposeLayer::Files(vec![file("/etc/a", "lower"), file(&long, "deep")]),
        ComposeLayer::Files(vec![
            file("/etc/a", "upper"),
            ComposeFile {
                path: "/bin/app".to_owned(),
                source: FileSource::Path(script),
                mode: 0o755,
            },
            ComposeFile {
                path: "/bin/link".to_owned(),
                source: FileSource::Link("app".into()),
                mode: 0o777,
            },
        ]),
    ];
    let digest = compose(&world.store, layers, config()).await.unwrap();
    let unpacked = rootfs(&world.store, &digest).await.unwrap();
    assert_eq!(unpacked.config, config());
    let read = |name: &str| std::fs::read_to_string(unpacked.path.join(name)).unwrap();
    assert_eq!(read("etc/a"), "upper");
    assert_eq!(read(long.trim_start_matches('/')), "deep");
    assert_eq!(read("bin/link"), "#!/bin/sh");
    let mode = std::fs::metadata(unpacked.path.join("bin/app")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[tokio::test]
async fn many_who_want_one_root_file_system_get_one() {
    let world = world();
    let layers = vec![ComposeLayer::Files(vec![file("/a", "1")])];
    let digest = compose(&world.store, layers, config()).await.unwrap();
    let calls = (0..8).map(|_| rootfs(&world.store, &digest));
    let paths: Vec<_> = futures::future::join_all(calls).await;
    let first = paths[0].as_ref().unwrap().path.clone();
    assert!(paths.iter().all(|found| found.as_ref().unwrap().path == first));
    assert_eq!(std::fs::read_dir(world.store.rootfs_directory()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(world.store.temporary()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let world = world();
    let layers = vec![ComposeLayer::Files(vec![file("/a", "1")])];
    let digest = compose(&world.store, layers, config()).await.unwrap();
    let mut manifest = world.store.manifest(&digest).unwrap();
    let other = vec![ComposeLayer::Files(vec![file("/a", "2")])];
    let other = compose(&world.store, other, config()).await.unwrap();
    manifest.layers = world.store.manifest(&other).unwrap().layers;
    let forged = world.store.write(&json(&manifest).unwrap()).unwrap().digest;
    let error = rootfs(&world.store, &forged).await.unwrap_err();
    assert_eq!(error.code(), "image_digest_mismatch");
    assert_eq!(std::fs::read_dir(world.store.rootfs_directory()).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(world.store.temporary()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_hostile_layer_has_its_code_and_leaves_nothing() {
    let world = world();
    let blob = world.store.write(&[0x1f, 0x8b, 1, 2, 3]).unwrap();
    let layer = Descriptor {
        media_type: OCI_LAYER.to_owned(),
        digest: blob.digest,
        size: blob.size,
        platform: None,
    };
    let digest = write_image(&world.store, vec![layer], config()).unwrap();
    let error = rootfs(&world.store, &digest).await.unwrap_err();
    assert_eq!(error.code(), "image_layer_invalid");
    assert_eq!(std::fs::read_dir(world.store.temporary()).unwrap().count(), 0);
}

#[tokio::test]
async fn bad_paths_are_refused() {
    let world = world();
    for files in [
        vec![file("/../etc/passwd", "x")],
        vec![file("/", "x")],
        vec![file("/a", "x"), file("/a", "y")],
        vec![file("/a", "x"), file("/a/b", "y")],
    ] {
        compose(&world.store, vec![ComposeLayer::Files(files)], config()).await.unwrap_err();
    }
}

#[tokio::test]
async fn garbage_collection_keeps_what_is_kept_tagged_or_young() {
    use std::time::Duration;
    let world = world();
    let mut digests = Vec::new();
    for content in ["kept", "tagged", "unused"] {
        let layers = vec![ComposeLayer::Files(vec![file("/a", content)])];
        let digest = compose(&world.store, layers, config()).await.unwrap();
        rootfs(&world.store, &digest).await.unwrap();
        digests.push(digest);
    }
    crate::registry::repository::publish(&world.store, "team/app", "v1", &digests[1]).unwrap();
    let hour = Duration::from_secs(3600);
    let collected = world.store.remove_unused(&digests[..1], hour).await.unwrap();
    assert_eq!(collected, crate::Collected::default());
    let collected = world.store.remove_unused(&digests[..1], Duration::ZERO).await.unwrap();
    assert_eq!((collected.blobs, collected.root_filesystems), (3, 1));
    for digest in &digests[..2] {
        rootfs(&world.store, digest).await.unwrap();
    }
    assert_eq!(rootfs(&world.store, &digests[2]).await.unwrap_err().code(), "image_not_found");
}
