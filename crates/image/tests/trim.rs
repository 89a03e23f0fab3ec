//! The store as a cache: what is used stays whatever happens, the rest goes in the
//! order in which it was used, and nobody who is killed meanwhile breaks anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use helix_image::{
    ComposeFile, ComposeLayer, Digest, FileSource, ImageConfig, Store, Trim, compose, rootfs,
};

/// What an image here takes, compressed and unpacked, is a little more than this.
const IMAGE_BYTES: u64 = 2 * CONTENT_BYTES as u64;

const CONTENT_BYTES: usize = 1_000_000;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn layer(path: &str, bytes: Vec<u8>) -> ComposeLayer {
    let file = ComposeFile { path: path.to_owned(), source: FileSource::Bytes(bytes), mode: 0o644 };
    ComposeLayer::Files(vec![file])
}

/// Two layers, one of which all images have, unpacked.
async fn image(store: &Store, number: u64) -> Digest {
    let layers =
        vec![layer("/shared", noise(99, 1000)), layer("/own", noise(number, CONTENT_BYTES))];
    compose(store, layers, ImageConfig::default()).await.unwrap()
}

async fn is_whole(store: &Store, digest: &Digest) -> bool {
    let Ok(manifest) = store.manifest(digest) else { return false };
    let blobs = manifest.layers.iter().chain([&manifest.config]);
    blobs.into_iter().all(|blob| store.has(&blob.digest))
}

fn roots(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("rootfs")).unwrap().count()
}

#[tokio::test]
async fn the_longest_unused_goes_first_and_what_is_used_never() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut images = Vec::new();
    for number in 0..4 {
        let image = image(&store, number).await;
        rootfs(&store, &image).await.unwrap();
        images.push(image);
    }
    let [first, second, third, fourth] = images[..] else { panic!() };
    let used = vec![first, second, third, fourth];
    let age_min = Duration::from_secs(3600);
    let trim = |in_use, bytes_max| Trim {
        in_use,
        used: used.clone(),
        bytes_max,
        age_min,
        ..Trim::default()
    };
    let trimmed = store.trim(trim(vec![], 10 * IMAGE_BYTES)).await.unwrap();
    assert_eq!((trimmed.removed.blobs, trimmed.removed.root_filesystems), (0, 0));
    assert!((4 * IMAGE_BYTES..5 * IMAGE_BYTES).contains(&trimmed.bytes), "{}", trimmed.bytes);

    // Room for three, and one of them is the oldest but in use.
    let trimmed = store.trim(trim(vec![first], 3 * IMAGE_BYTES + 100_000)).await.unwrap();
    assert_eq!(trimmed.removed.root_filesystems, 1);
    assert!(trimmed.bytes < 3 * IMAGE_BYTES + 100_000);
    assert!(!is_whole(&store, &second).await);
    for kept in [first, third, fourth] {
        assert!(is_whole(&store, &kept).await, "with the layer that all share");
    }

    // What somebody holds stays without being named.
    let held = rootfs(&store, &third).await.unwrap();
    store.trim(trim(vec![], 0)).await.unwrap();
    assert!(held.path.join("own").is_file() && roots(&store) == 1);
    drop(held);
    let trimmed = store.trim(trim(vec![], 0)).await.unwrap();
    assert_eq!((trimmed.bytes, roots(&store)), (0, 0));
}

#[tokio::test]
async fn what_leads_nowhere_stays_for_a_while_unless_room_is_short() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let half = store.write(b"a layer whose image never came").unwrap().digest;
    let age_min = Duration::from_secs(3600);
    store.trim(Trim { age_min, ..Trim::default() }).await.unwrap();
    assert!(store.has(&half));
    store.trim(Trim::default()).await.unwrap();
    assert!(!store.has(&half));
}

#[tokio::test]
async fn what_a_registry_serves_from_the_same_store_is_its_business() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (pushed, pulled) = (image(&store, 1).await, image(&store, 2).await);
    // Under no tag any more, as a release from yesterday is.
    helix_image::registry::repository::admit(&store, "acme/app", &pushed).unwrap();
    let trim = Trim { used: vec![pulled], with_registry: true, ..Trim::default() };
    let trimmed = store.trim(trim).await.unwrap();
    assert!(is_whole(&store, &pushed).await && !is_whole(&store, &pulled).await);
    assert_eq!(trimmed.bytes, 0, "and does not count");
}

#[tokio::test]
async fn a_damaged_manifest_stands_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let damaged = image(&store, 1).await;
    std::fs::write(store.blob_path(&damaged), "{").unwrap();
    store.trim(Trim { used: vec![damaged], ..Trim::default() }).await.unwrap();
    assert!(!store.has(&damaged));
}

/// Copies, unpacks and evicts as fast as it can, from `from` into `into`.
async fn churn(from: &Store, into: &Store, images: &[Digest]) {
    for round in 0.. {
        let image = images[round % images.len()];
        fill(from, into, &image);
        rootfs(into, &image).await.unwrap();
        into.trim(Trim { used: vec![image], ..Trim::default() }).await.unwrap();
    }
}

fn fill(from: &Store, into: &Store, image: &Digest) {
    let manifest = from.manifest(image).unwrap();
    let parts = manifest.layers.iter().map(|layer| layer.digest);
    for part in parts.chain([manifest.config.digest, *image]) {
        into.write(&std::fs::read(from.blob_path(&part)).unwrap()).unwrap();
    }
}

/// What the next one starts and kills; by itself it is over at once.
#[tokio::test]
async fn child() {
    let Ok(place) = std::env::var("TRIM_PLACE") else { return };
    let from = Store::open(&Path::new(&place).join("from")).unwrap();
    let into = Store::open(&Path::new(&place).join("into")).unwrap();
    churn(&from, &into, &[image(&from, 1).await, image(&from, 2).await]).await;
}

#[tokio::test]
async fn killed_at_any_moment_it_leaves_nothing_broken() {
    let directory = tempfile::tempdir().unwrap();
    let from = Store::open(&directory.path().join("from")).unwrap();
    let images = [image(&from, 1).await, image(&from, 2).await];
    for round in 0..15 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("TRIM_PLACE", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100 + round * 7)).await;
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it was at work");

        // Whatever has a name is right, and what is missing can be had again.
        let into = Store::open(&directory.path().join("into")).unwrap();
        assert_eq!(std::fs::read_dir(into.root().join("temporary")).unwrap().count(), 0);
        for blob in std::fs::read_dir(into.root().join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let bytes = std::fs::read(blob.path()).unwrap();
            assert_eq!(Digest::of(&bytes).hex(), blob.file_name().into_string().unwrap());
        }
        for (image, seed) in images.iter().zip(1..) {
            fill(&from, &into, image);
            let root = rootfs(&into, image).await.unwrap();
            assert_eq!(std::fs::read(root.path.join("own")).unwrap(), noise(seed, CONTENT_BYTES));
        }
    }
}
