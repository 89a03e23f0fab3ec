//! The sealed table: opens for who has the key, the id and the purpose, and for
//! nobody else.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use helix_log::{
    KeyFile, MasterKey, MemorySealedRows, PostgresLog, SEALED_MAX_BYTES, Sealed, SealedError,
    SealedRow, SealedRows, SqliteLog, WrappedKey,
};
use tempfile::TempDir;

use crate::world;

struct World {
    rows: Arc<dyn SealedRows>,
    directory: TempDir,
}

impl World {
    fn on(rows: Arc<dyn SealedRows>) -> World {
        World { rows, directory: tempfile::tempdir().unwrap() }
    }

    fn key_path(&self) -> PathBuf {
        self.directory.path().join("keys")
    }

    /// As another process with the same files would.
    fn open(&self) -> Sealed {
        let keys = KeyFile::open_or_create(self.key_path()).unwrap();
        Sealed::new(Arc::clone(&self.rows), keys)
    }

    async fn row(&self, id: &str) -> SealedRow {
        self.rows.get(id).await.unwrap().unwrap()
    }
}

async fn for_each_backend<F: Future<Output = ()>>(body: impl Fn(World) -> F) {
    body(World::on(Arc::new(MemorySealedRows::default()))).await;
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    body(World::on(Arc::new(log.sealed_rows()))).await;
    if let Some(database) = world::database().await {
        let log = PostgresLog::connect(&database.url).await.unwrap();
        body(World::on(Arc::new(log.sealed_rows()))).await;
    }
}

async fn exposed(sealed: &Sealed, id: &str, aad: &[u8]) -> Option<Vec<u8>> {
    sealed.get(id, aad).await.unwrap().map(|it| it.expose().to_vec())
}

fn is_tampered<T>(result: Result<T, SealedError>, id: &str) -> bool {
    matches!(result, Err(SealedError::Tampered { id: told }) if told == id)
}

#[tokio::test]
async fn what_was_sealed_opens_again_and_is_gone_when_deleted() {
    for_each_backend(|world| async move {
        let sealed = world.open();
        assert_eq!(exposed(&sealed, "s1", b"env").await, None);
        sealed.put("s1", b"hunter2", b"env").await.unwrap();
        sealed.put("empty", b"", b"").await.unwrap();
        assert_eq!(exposed(&world.open(), "s1", b"env").await.unwrap(), b"hunter2");
        assert_eq!(exposed(&sealed, "empty", b"").await.unwrap(), b"");
        sealed.put("s1", b"hunter3", b"env").await.unwrap();
        assert_eq!(exposed(&sealed, "s1", b"env").await.unwrap(), b"hunter3");
        assert!(sealed.delete("s1").await.unwrap());
        assert!(!sealed.delete("s1").await.unwrap());
        assert_eq!(exposed(&sealed, "s1", b"env").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_record_opens_only_for_its_purpose_and_under_its_id() {
    for_each_backend(|world| async move {
        let sealed = world.open();
        sealed.put("s1", b"for alice", b"alice").await.unwrap();
        sealed.put("s2", b"for alice", b"alice").await.unwrap();
        assert!(is_tampered(sealed.get("s1", b"bob").await, "s1"));
        assert!(is_tampered(sealed.get("s1", b"").await, "s1"));

        // Somebody at a prompt puts one record in the place of the other, with
        // its key and without.
        let (first, second) = (world.row("s1").await, world.row("s2").await);
        let moved = WrappedKey { id: "s2".to_owned(), ..first.key.clone() };
        let row = SealedRow { key: moved, ciphertext: first.ciphertext.clone() };
        world.rows.put(row).await.unwrap();
        assert!(is_tampered(sealed.get("s2", b"alice").await, "s2"));
        let row = SealedRow { key: second.key, ciphertext: first.ciphertext };
        world.rows.put(row).await.unwrap();
        assert!(is_tampered(sealed.get("s2", b"alice").await, "s2"));
    })
    .await;
}

#[tokio::test]
async fn any_changed_byte_is_noticed() {
    let world = World::on(Arc::new(MemorySealedRows::default()));
    let sealed = world.open();
    sealed.put("s1", b"value", b"").await.unwrap();
    let row = world.row("s1").await;
    let lengths = (row.key.wrapped.len(), row.ciphertext.len());
    for at in 0..lengths.0 + lengths.1 {
        let mut changed = row.clone();
        match at.checked_sub(lengths.0) {
            None => changed.key.wrapped[at] ^= 1,
            Some(at) => changed.ciphertext[at] ^= 1,
        }
        world.rows.put(changed).await.unwrap();
        assert!(is_tampered(sealed.get("s1", b"").await, "s1"), "byte {at}");
    }
    for length in 0..lengths.1 {
        let ciphertext = row.ciphertext[..length].to_vec();
        world.rows.put(SealedRow { ciphertext, ..row.clone() }).await.unwrap();
        assert!(is_tampered(sealed.get("s1", b"").await, "s1"), "cut at {length}");
    }
}

#[tokio::test]
async fn rotation_rewraps_the_keys_and_touches_no_record() {
    for_each_backend(|world| async move {
        let sealed = world.open();
        let replica = world.open();
        for at in 0..300 {
            let id = format!("s{at}");
            sealed.put(&id, id.as_bytes(), b"").await.unwrap();
        }
        let before = world.row("s7").await;
        let new = MasterKey::generate().unwrap();
        assert_eq!(sealed.rotate(new.clone()).await.unwrap(), 300);
        let after = world.row("s7").await;
        assert_eq!(after.ciphertext, before.ciphertext);
        assert_eq!(after.key.key_id, new.id());
        assert_ne!(after.key.wrapped, before.key.wrapped);
        // One that has not heard of it reads the file again.
        assert_eq!(exposed(&replica, "s299", b"").await.unwrap(), b"s299");
        assert_eq!(sealed.rotate(new.clone()).await.unwrap(), 0);

        assert_eq!(sealed.retire().await.unwrap(), [before.key.key_id.as_str()]);
        let text = fs::read_to_string(world.key_path()).unwrap();
        assert!(text.contains(new.id()) && !text.contains(&before.key.key_id));
        assert_eq!(exposed(&world.open(), "s0", b"").await.unwrap(), b"s0");
    })
    .await;
}

#[tokio::test]
async fn a_key_in_use_is_not_retired_and_a_lost_one_is_named() {
    for_each_backend(|world| async move {
        let sealed = world.open();
        let replica = world.open();
        sealed.put("old", b"x", b"").await.unwrap();
        sealed.rotate(MasterKey::generate().unwrap()).await.unwrap();
        // A replica that has not read the file since seals under the old key.
        replica.put("late", b"y", b"").await.unwrap();
        assert!(sealed.retire().await.unwrap().is_empty());
        assert_eq!(exposed(&sealed, "late", b"").await.unwrap(), b"y");

        let old = world.row("late").await.key.key_id;
        fs::remove_file(world.key_path()).unwrap();
        let error = world.open().get("late", b"").await.unwrap_err();
        assert!(matches!(&error, SealedError::UnknownKey { key_id, .. } if *key_id == old));
    })
    .await;
}

#[tokio::test]
async fn a_table_opens_only_with_its_own_key_file() {
    for_each_backend(|world| async move {
        let open =
            |name: &str| Sealed::open(Arc::clone(&world.rows), world.directory.path().join(name));
        open("keys").await.unwrap();
        // Again, and after a rotation that retired the first key.
        let sealed = open("keys").await.unwrap();
        sealed.rotate(MasterKey::generate().unwrap()).await.unwrap();
        assert_eq!(sealed.retire().await.unwrap().len(), 1);
        open("keys").await.unwrap();

        let error = open("missing").await.unwrap_err();
        assert!(matches!(error, SealedError::KeyFileMissing { .. }), "{error}");
        assert!(!world.directory.path().join("missing").exists(), "no key was made up");
        KeyFile::open_or_create(world.directory.path().join("other")).unwrap();
        let error = open("other").await.unwrap_err();
        assert!(matches!(error, SealedError::OtherKeyFile { .. }), "{error}");
        assert!(error.hint().unwrap().contains("copy it from one that runs"));
    })
    .await;
}

#[tokio::test]
async fn of_replicas_that_start_at_once_all_have_the_key_that_won() {
    for_each_backend(|world| async move {
        let opening = (0..4).map(|at| {
            Sealed::open(Arc::clone(&world.rows), world.directory.path().join(format!("keys{at}")))
        });
        let opened = futures::future::join_all(opening).await;
        let won = opened.iter().filter(|it| it.is_ok()).count();
        assert_eq!(won, 1, "{opened:?}");
    })
    .await;
}

#[tokio::test]
async fn rows_are_listed_by_their_ids_in_pages() {
    for_each_backend(|world| async move {
        let sealed = world.open();
        let mut ids = ["b", "a-1", "a_2", "Z", "\u{e4}"];
        for id in ids {
            sealed.put(id, b"x", b"").await.unwrap();
        }
        ids.sort_unstable();
        let first = world.rows.page("", 3).await.unwrap();
        let rest = world.rows.page(&first[2].key.id, 3).await.unwrap();
        assert_eq!(rest[1], world.row(ids[4]).await);
        let listed = first.iter().chain(&rest).map(|it| it.key.id.as_str());
        assert_eq!(listed.collect::<Vec<_>>(), ids);
    })
    .await;
}

#[tokio::test]
async fn values_and_keys_show_up_nowhere() {
    let world = World::on(Arc::new(MemorySealedRows::default()));
    let sealed = world.open();
    sealed.put("s1", b"hunter2", b"").await.unwrap();
    let keys = fs::read_to_string(world.key_path()).unwrap();
    let key = keys.lines().last().unwrap().split(' ').nth(1).unwrap().to_owned();
    let value = sealed.get("s1", b"").await.unwrap().unwrap();
    let shown = format!("{value:?} {sealed:?} {:?}", MasterKey::generate().unwrap());
    let bytes = format!("{:?}", b"hunter2");
    for secret in ["hunter2", &bytes, &key] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let row = world.row("s1").await;
    assert!(!row.ciphertext.windows(7).any(|it| it == b"hunter2"));
}

#[tokio::test]
async fn limits_are_told() {
    let sealed = World::on(Arc::new(MemorySealedRows::default())).open();
    let value = vec![0; SEALED_MAX_BYTES + 1];
    let error = sealed.put("s", &value, b"").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "sealing refused: value of 1048577 bytes exceeds the limit of 1048576"
    );
    sealed.put("s", &value[1..], b"").await.unwrap();
    assert!(sealed.put(&"i".repeat(513), b"", b"").await.is_err());
}

#[test]
fn the_key_file_is_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let made = KeyFile::open_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(KeyFile::open_or_create(&path).unwrap().active().id(), made.active().id());
    // And the lock, but no draft.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyFile::open_or_create(&path).unwrap_err();
    assert!(error.to_string().ends_with("can be read by others (mode 640)"), "{error}");
}

#[test]
fn a_damaged_key_file_is_told_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    KeyFile::open_or_create(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let last = text.trim_end().chars().last().unwrap();
    let other = if last == '0' { '1' } else { '0' };
    let changed = format!("{}{other}\n", &text.trim_end()[..text.trim_end().len() - 1]);
    for damaged in [changed.as_str(), "", "# only a note\n", "id zz\n"] {
        fs::write(&path, damaged).unwrap();
        let error = KeyFile::open_or_create(&path).unwrap_err();
        assert!(matches!(error, SealedError::KeyFileMalformed { .. }), "{damaged}: {error}");
    }
}

/// Several open the same path at the same moment, each on its own.
fn at_once<T: Send>(count: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let barrier = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let together = || {
            barrier.wait();
            work()
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(together)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

#[test]
fn racing_creators_agree_on_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let open = || KeyFile::open_or_create(&path).unwrap().active().id().to_owned();
    let mut ids = at_once(8, open);
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn racing_rotations_lose_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    KeyFile::open_or_create(&path).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ids = at_once(8, || {
        let keys = KeyFile::open_or_create(&path).unwrap();
        let sealed = Sealed::new(Arc::new(MemorySealedRows::default()), keys);
        let new = MasterKey::generate().unwrap();
        let id = new.id().to_owned();
        runtime().block_on(sealed.rotate(new)).unwrap();
        id
    });
    let text = fs::read_to_string(&path).unwrap();
    assert!(ids.iter().all(|it| text.contains(it)), "{ids:?}");
}

#[tokio::test]
async fn a_keyed_hash_is_the_same_for_all_who_have_the_key_and_after_a_rotation() {
    for_each_backend(|world| async move {
        let (one, other) = (world.open(), world.open());
        let hash = one.keyed_hash("use", &[b"secret"]).await.unwrap();
        assert_eq!(other.keyed_hash("use", &[b"secret"]).await.unwrap(), hash);
        one.rotate(MasterKey::generate().unwrap()).await.unwrap();
        assert_eq!(world.open().keyed_hash("use", &[b"secret"]).await.unwrap(), hash);
        for (purpose, parts) in [
            ("other", &[b"secret".as_slice()][..]),
            ("use", &[b"secre".as_slice(), b"t"][..]),
            ("use", &[b"Secret".as_slice()][..]),
        ] {
            assert_ne!(one.keyed_hash(purpose, parts).await.unwrap(), hash);
        }
        let elsewhere = World::on(Arc::new(MemorySealedRows::default())).open();
        assert_ne!(elsewhere.keyed_hash("use", &[b"secret"]).await.unwrap(), hash);
    })
    .await;
}
