//! Backups in an object store that refuses, is not there, or dies in the middle.

use std::time::{Duration, Instant};

use helix_log::{BackupIndex, BackupStore, StoreTrouble, VolumeBackups};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::objects::{Objects, URL};

/// Who asks hears within this what is wrong with a store that is not there.
const HEARD_WITHIN: Duration = Duration::from_secs(20);

const PIECE_BYTES: usize = 1 << 20;

fn store(variables: Vec<(String, String)>) -> BackupStore {
    let _ = rustls::crypto::ring::default_provider().install_default();
    BackupStore::open(&format!("{URL}/prod"), variables).unwrap()
}

fn volume(store: &BackupStore, name: &str) -> VolumeBackups {
    store.of("org_1", name, Zeroizing::new([7; 32]))
}

/// Pieces of a volume, none like another, and what they are called.
fn pieces(count: u8) -> Vec<(String, Vec<u8>)> {
    let piece = |number| {
        let piece = vec![number; PIECE_BYTES];
        (hash(&piece), piece)
    };
    (1..=count).map(piece).collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(pieces: &[(String, Vec<u8>)]) -> Vec<String> {
    pieces.iter().map(|(name, _)| name.clone()).collect()
}

/// Says that these pieces are a backup.
async fn finish(backups: &VolumeBackups, name: &str, pieces: &[(String, Vec<u8>)]) -> BackupIndex {
    let list = names(pieces).iter().map(|hash| format!("{hash}\n")).collect::<String>();
    let lists = vec![hash(list.as_bytes())];
    backups.put(&lists[0], list.as_bytes()).await.unwrap();
    let index = BackupIndex { about: name.as_bytes().to_vec(), lists };
    backups.finish(name, &index).await.unwrap();
    index
}

fn with(mut variables: Vec<(String, String)>, name: &str, value: &str) -> Vec<(String, String)> {
    variables.retain(|(known, _)| known != name);
    variables.push((name.to_owned(), value.to_owned()));
    variables
}

#[tokio::test]
async fn a_backup_goes_on_when_its_store_comes_back_and_nothing_is_sent_twice() {
    let Some(mut objects) = Objects::start() else { return };
    let store = store(objects.variables());
    store.check().await.unwrap();
    let (backups, other) = (volume(&store, "vol_1"), volume(&store, "vol_2"));
    let all = pieces(6);
    for (name, piece) in &all[..3] {
        backups.put(name, piece).await.unwrap();
    }
    objects.kill();
    let begun = Instant::now();
    let away = backups.put(&all[3].0, &all[3].1).await.unwrap_err();
    assert_eq!(away.trouble(), Some(StoreTrouble::Unreachable), "{away}");
    assert!(begun.elapsed() < HEARD_WITHIN, "{:?}", begun.elapsed());
    objects.restart();

    assert_eq!(backups.lacks(&names(&all)).await.unwrap(), names(&all[3..]));
    let unnamed = backups.open("snp_1").await.unwrap_err();
    assert_eq!(unnamed.trouble(), None, "there is no half backup: {unnamed}");
    for (name, piece) in &all[3..] {
        backups.put(name, piece).await.unwrap();
    }
    let index = finish(&backups, "snp_1", &all).await;
    assert_eq!(backups.open("snp_1").await.unwrap(), index);
    for (name, piece) in &all {
        assert_eq!(backups.get(name).await.unwrap(), *piece);
    }

    // Volumes do not share, and what goes takes nothing of another's along.
    assert_eq!(other.lacks(&names(&all)).await.unwrap(), names(&all));
    other.put(&all[0].0, &all[0].1).await.unwrap();
    finish(&other, "snp_2", &all[..1]).await;
    backups.remove("snp_1").await.unwrap();
    backups.remove("snp_1").await.unwrap();
    assert_eq!(backups.sweep().await.unwrap(), 7);
    assert_eq!(other.get(&all[0].0).await.unwrap(), all[0].1);
    assert_eq!(objects.count("vol_1"), 0);
    assert_eq!(objects.count("vol_2"), 3);
}

#[tokio::test]
async fn who_may_not_use_the_store_hears_so_and_nothing_in_it_changes() {
    let Some(objects) = Objects::start() else { return };
    let ours = store(objects.variables());
    let (backups, all) = (volume(&ours, "vol_1"), pieces(2));
    for (name, piece) in &all {
        backups.put(name, piece).await.unwrap();
    }
    finish(&backups, "snp_1", &all).await;

    let wrong = with(objects.variables(), "AWS_SECRET_ACCESS_KEY", "another-secret");
    let stranger = store(wrong);
    let refused = stranger.check().await.unwrap_err();
    assert_eq!(refused.trouble(), Some(StoreTrouble::CredentialsInvalid), "{refused}");
    assert!(!format!("{refused:?} {stranger:?}").contains("another-secret"));
    let theirs = volume(&stranger, "vol_1");
    for refused in [
        theirs.lacks(&names(&all)).await.unwrap_err(),
        theirs.put(&all[0].0, &all[0].1).await.unwrap_err(),
        theirs.open("snp_1").await.unwrap_err(),
        theirs.remove("snp_1").await.unwrap_err(),
        theirs.sweep().await.unwrap_err(),
    ] {
        assert_eq!(refused.trouble(), Some(StoreTrouble::CredentialsInvalid), "{refused}");
    }
    backups.open("snp_1").await.unwrap();

    let elsewhere = BackupStore::open("s3://no-such-bucket/prod", objects.variables()).unwrap();
    let missing = elsewhere.check().await.unwrap_err();
    assert_eq!(missing.trouble(), Some(StoreTrouble::BucketMissing), "{missing}");
    let nowhere = with(objects.variables(), "AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let away = store(nowhere).check().await.unwrap_err();
    assert_eq!(away.trouble(), Some(StoreTrouble::Unreachable), "{away}");
}

#[tokio::test]
async fn credentials_may_be_in_a_file() {
    let Some(objects) = Objects::start() else { return };
    let variables = objects.variables();
    let get = |wanted: &str| &variables.iter().find(|(name, _)| name == wanted).unwrap().1;
    let file = tempfile::NamedTempFile::new().unwrap();
    let (id, secret) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"));
    let text = format!("[backups]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    std::fs::write(file.path(), text).unwrap();
    let mut named = variables.clone();
    named.retain(|(name, _)| !name.contains("KEY"));
    let named = with(named, "AWS_SHARED_CREDENTIALS_FILE", file.path().to_str().unwrap());
    let named = with(named, "AWS_PROFILE", "backups");
    store(named.clone()).check().await.unwrap();
    let other = with(named, "AWS_PROFILE", "others");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let refused = BackupStore::open(URL, other).unwrap_err();
    assert!(!format!("{refused:?}").contains(secret.as_str()), "no secret is shown");
}
