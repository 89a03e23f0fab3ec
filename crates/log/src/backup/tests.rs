//! What is kept comes back, tells nobody anything, and goes when nothing needs it.

use super::*;

const KEY: [u8; 32] = [7; 32];

fn backups(place: &std::path::Path, volume: &str, key: [u8; 32]) -> VolumeBackups {
    let store = BackupStore::open(place.to_str().unwrap(), []).unwrap();
    store.of("org_1", volume, Zeroizing::new(key))
}

/// A backup of these pieces; the index it has.
async fn backed_up(backups: &VolumeBackups, name: &str, pieces: &[&[u8]]) -> BackupIndex {
    let mut list = String::new();
    for piece in pieces {
        let hash = seal::sha256(piece);
        backups.put(&hash, piece).await.unwrap();
        list.push_str(&format!("{hash}\n"));
    }
    let lists = vec![seal::sha256(list.as_bytes())];
    backups.put(&lists[0], list.as_bytes()).await.unwrap();
    let index = BackupIndex { about: name.as_bytes().to_vec(), lists };
    backups.finish(name, &index).await.unwrap();
    index
}

/// All files below a directory.
fn files(place: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_is_put_comes_back_and_is_not_asked_for_again() {
    let place = tempfile::tempdir().unwrap();
    let backups = backups(place.path(), "vol_1", KEY);
    let (first, second) = (seal::sha256(b"first"), seal::sha256(b"second"));
    let index = backed_up(&backups, "snp_1", &[b"first"]).await;
    assert_eq!(backups.open("snp_1").await.unwrap(), index);
    assert_eq!(backups.get(&first).await.unwrap(), b"first");
    let lacking = backups.lacks(&[first.clone(), second.clone()]).await.unwrap();
    assert_eq!(lacking, std::slice::from_ref(&second));
    let missing = backups.get(&second).await.unwrap_err();
    assert!(matches!(missing, BackupError::Missing { .. }), "{missing}");
    let other = backups.put(&first, b"other").await.unwrap_err();
    assert!(matches!(other, BackupError::NotAPiece { .. }), "{other}");
}

#[tokio::test]
async fn nothing_in_the_store_can_be_read_or_told_without_the_key() {
    let place = tempfile::tempdir().unwrap();
    backed_up(&backups(place.path(), "vol_1", KEY), "snp_1", &[b"planted value"]).await;
    for file in files(place.path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|it| it == b"planted"), "{}", file.display());
        assert!(!file.to_str().unwrap().contains(&seal::sha256(b"planted value")));
    }
    let other = backups(place.path(), "vol_1", [8; 32]);
    let damaged = other.open("snp_1").await.unwrap_err();
    assert!(matches!(damaged, BackupError::Damaged { .. }), "{damaged}");
}

#[tokio::test]
async fn a_piece_or_an_index_that_was_changed_or_moved_does_not_open() {
    let place = tempfile::tempdir().unwrap();
    let ours = backups(place.path(), "vol_1", KEY);
    backed_up(&ours, "snp_1", &[b"first"]).await;
    // Of another volume, under the same key.
    let theirs = place.path().join("backups/org_1/vol_2");
    std::fs::create_dir_all(&theirs).unwrap();
    let from = place.path().join("backups/org_1/vol_1/snp_1.index");
    std::fs::copy(&from, theirs.join("snp_1.index")).unwrap();
    std::fs::copy(&from, from.with_file_name("snp_2.index")).unwrap();
    let theirs = backups(place.path(), "vol_2", KEY);
    for (backups, name) in [(&theirs, "snp_1"), (&ours, "snp_2")] {
        let damaged = backups.open(name).await.unwrap_err();
        assert!(matches!(damaged, BackupError::Damaged { .. }), "{damaged}");
    }
    for file in files(&place.path().join("backups/org_1/vol_1/chunks")) {
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let damaged = ours.get(&seal::sha256(b"first")).await.unwrap_err();
    assert!(matches!(damaged, BackupError::Damaged { .. }), "{damaged}");
}

#[tokio::test]
async fn a_backup_whose_pieces_are_not_all_there_is_none() {
    let place = tempfile::tempdir().unwrap();
    let backups = backups(place.path(), "vol_1", KEY);
    let list = format!("{}\n", seal::sha256(b"nowhere"));
    let lists = vec![seal::sha256(list.as_bytes())];
    backups.put(&lists[0], list.as_bytes()).await.unwrap();
    let index = BackupIndex { about: Vec::new(), lists };
    let missing = backups.finish("snp_1", &index).await.unwrap_err();
    assert!(matches!(missing, BackupError::Missing { .. }), "{missing}");
    assert!(backups.open("snp_1").await.is_err());
}

#[tokio::test]
async fn pieces_go_with_the_last_backup_that_names_them() {
    let place = tempfile::tempdir().unwrap();
    let backups = backups(place.path(), "vol_1", KEY);
    backed_up(&backups, "snp_1", &[b"both", b"first"]).await;
    backed_up(&backups, "snp_2", &[b"both", b"second"]).await;
    backups.remove("snp_1").await.unwrap();
    backups.remove("snp_1").await.unwrap();
    // `first` and the list of the first backup.
    assert_eq!(backups.sweep().await.unwrap(), 2);
    assert_eq!(backups.get(&seal::sha256(b"both")).await.unwrap(), b"both");
    assert!(backups.get(&seal::sha256(b"first")).await.is_err());
    // What cannot be read may name anything.
    let index = place.path().join("backups/org_1/vol_1/snp_2.index");
    std::fs::write(&index, b"damaged").unwrap();
    assert!(backups.sweep().await.is_err());
    assert_eq!(backups.get(&seal::sha256(b"second")).await.unwrap(), b"second");
}
