//! A whole installation as one file, from one kind of database to the other.
//!
//! [`World`] is a server that can be busy; the imports are read back with the
//! proofs an operator has.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]
#![allow(clippy::print_stdout, reason = "says what is skipped, and why")]

#[path = "../../../log/tests/backends/cluster.rs"]
pub mod cluster;
#[path = "../../../log/tests/backends/world.rs"]
#[expect(dead_code, reason = "the log's own tests need more of it")]
mod database;
#[path = "../../../log/tests/backends/objects.rs"]
pub mod objects;
mod retention;
mod state_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use helix_image::Store;
use helix_log::{EventLog, Position, Verification};
use helix_model::{Actor, Command, State, node, org};
use helix_server::{
    Config, Engine, Idempotency, ImportError, Origin, Server, Storage, StorageError, Token, Writers,
};

struct World {
    server: Server,
    storage: Storage,
    token: Token,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open_directory(dir.path()).await.unwrap();
        let token = Token::fresh();
        let server = start(storage.clone(), dir.path(), &token).await;
        World { server, storage, token, dir }
    }

    fn engine(&self) -> &Engine {
        self.server.engine()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As `helix admin export` gets it from the API.
    async fn export(&self) -> PathBuf {
        let url = format!("http://{}/v1/admin/export", self.server.address());
        let request = reqwest::Client::new().get(url).bearer_auth(self.token.reveal());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let file = self.file("installation.helix");
        std::fs::write(&file, response.bytes().await.unwrap()).unwrap();
        file
    }
}

async fn start(storage: Storage, dir: &Path, token: &Token) -> Server {
    let images = Store::open(&dir.join("images")).unwrap();
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        storage,
        images,
        token: token.hash(),
        version: "0.0.0".to_owned(),
        advertise: None,
        registries: helix_server::Registries::default(),
        domains: helix_server::Domains::default(),
        denied_ports: None,
        tunnel_ports: None,
        anonymous_tunnels: None,
        acme: None,
    };
    Server::start(config).await.unwrap()
}

fn origin(key: Option<&str>) -> Origin {
    Origin {
        actor: Actor::System("test".to_owned()),
        request_id: "req_test".to_owned(),
        source: None,
        idempotency: key.map(|key| Idempotency { key: key.to_owned(), request_hash: [7; 32] }),
        precondition: None,
    }
}

fn connect(cpus: u32) -> Command {
    let facts = node::Facts {
        version: "0".to_owned(),
        cpus,
        memory_bytes: 1 << 30,
        isolation: "process".to_owned(),
        isolation_reason: "pretended".to_owned(),
        isolation_advice: None,
        volumes: None,
    };
    Command::ConnectNode(node::Connect { name: "there".parse().unwrap(), facts, replica: None })
}

fn create_org(name: &str) -> Command {
    Command::CreateOrg(org::Create { name: name.parse().unwrap() })
}

/// Does something for ever, as fast as it is let.
fn keep_busy(engine: &Engine) -> tokio::task::JoinHandle<()> {
    let engine = engine.clone();
    tokio::spawn(async move {
        for turn in 0.. {
            engine.submit(connect(turn), origin(None)).await.unwrap();
        }
    })
}

/// The state at a position, folded anew.
async fn state_at(log: &dyn EventLog, position: u64) -> State {
    let mut state = State::default();
    while state.position < position {
        for entry in log.read(Position(state.position), 1000).await.unwrap() {
            if entry.position.0 <= position {
                let recorded: helix_model::event::Recorded =
                    serde_json::from_slice(&entry.payload).unwrap();
                state.apply(entry.position.0, recorded.at, &recorded.event);
            }
        }
    }
    state
}

async fn check_same(world: &World, imported: &Storage) {
    let head = imported.log.head().await.unwrap();
    assert_eq!(imported.log.verify().await.unwrap(), Verification::Intact(head));
    let original = world.storage.log.read(Position(head.position.0 - 1), 1).await.unwrap();
    assert_eq!(original[0].head(), head, "the same chain, hash for hash");
    assert_eq!(imported.audit.head().await.unwrap(), world.storage.audit.head().await.unwrap());
    let opened = imported.sealed.get("secret", b"shop").await.unwrap().unwrap();
    assert_eq!(opened.expose(), b"hunter2");

    // A server goes on with it.
    let before = state_at(world.storage.log.as_ref(), head.position.0).await;
    let engine = Engine::start(Arc::clone(&imported.log), Writers::One).await.unwrap();
    assert_eq!(*engine.state(), before);
    let again = engine.submit(create_org("acme"), origin(Some("test:key-00000001"))).await.unwrap();
    let first = world.engine().submit(create_org("acme"), origin(Some("test:key-00000001")));
    assert_eq!(again, first.await.unwrap(), "the first answer, remembered");
    assert_eq!(engine.state().position, head.position.0);
    let next = engine.submit(create_org("other"), origin(None)).await.unwrap();
    assert!(next.position > head.position.0);
    assert_eq!(engine.verify_state().await.unwrap(), (true, next.position));
}

/// A busy installation with something of everything.
async fn furnished() -> World {
    let world = World::new().await;
    let created = create_org("acme");
    world.engine().submit(created, origin(Some("test:key-00000001"))).await.unwrap();
    world.storage.sealed.put("secret", b"hunter2", b"shop").await.unwrap();
    let payload = b"somebody asked".to_vec();
    let entry = helix_log::NewEntry { at_ms: 1, payload };
    let expected = world.storage.audit.head().await.unwrap().position;
    let batch = helix_log::Batch::of_entries(expected, vec![entry; 7]);
    world.storage.audit.append(batch).await.unwrap();
    for turn in 0..1500 {
        world.engine().submit(connect(turn), origin(None)).await.unwrap();
    }
    world
}

/// What is copied by hand.
fn copy_keys(world: &World, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(world.file("keys"), to.join("keys")).unwrap();
}

#[tokio::test]
async fn a_busy_installation_moves_to_another_directory() {
    let world = furnished().await;
    let busy = keep_busy(world.engine());
    let file = world.export().await;
    busy.abort();
    let _ = busy.await;
    let target = world.file("other");
    let moved = Storage::import_directory(&target, &file).await.unwrap();
    assert!(moved.events >= 1500 && moved.audit >= 7, "{moved:?}");
    // One of the test, the key of the authority and that of tunnels.
    assert_eq!((moved.receipts, moved.sealed), (1, 3));

    let refused = Storage::open_directory(&target).await.err().unwrap();
    assert!(refused.hint().unwrap().contains("restore the key file"), "{refused:?}");
    copy_keys(&world, &target);
    check_same(&world, &Storage::open_directory(&target).await.unwrap()).await;
}

#[tokio::test]
async fn a_busy_installation_moves_to_postgresql_and_back() {
    let Some(database) = database::database().await else { return };
    let world = furnished().await;
    let busy = keep_busy(world.engine());
    let file = world.export().await;
    busy.abort();
    let _ = busy.await;
    Storage::import_database(&database.url, &file).await.unwrap();
    let replica = world.file("replica");
    copy_keys(&world, &replica);
    let moved = Storage::connect(&database.url, &replica).await.unwrap();
    check_same(&world, &moved).await;

    // A whole server starts on it, and what it exports goes back into a file.
    let server = start(moved.clone(), &replica, &world.token).await;
    let mut pieces = moved.export();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    server.shutdown().await;
    let file = world.file("back.helix");
    std::fs::write(&file, bytes).unwrap();
    let back = world.file("back");
    Storage::import_directory(&back, &file).await.unwrap();
    copy_keys(&world, &back);
    let back = Storage::open_directory(&back).await.unwrap();
    let head = back.log.head().await.unwrap();
    assert_eq!(back.log.verify().await.unwrap(), Verification::Intact(head));
    let there = moved.log.read(Position(head.position.0 - 1), 1).await.unwrap();
    assert_eq!(there[0].head(), head);
}

#[tokio::test]
async fn nothing_is_written_when_the_file_is_not_whole() {
    let world = furnished().await;
    let file = world.export().await;
    let whole = std::fs::read(&file).unwrap();
    let cut = world.file("cut");
    std::fs::write(&cut, &whole[..whole.len() - 40]).unwrap();
    let changed = world.file("changed");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let target = world.file("other");
    for damaged in [&cut, &changed] {
        let error = Storage::import_directory(&target, damaged).await.unwrap_err();
        assert!(matches!(error, ImportError::Dump { .. }), "{error:?}");
        assert!(!target.exists(), "nothing was made");
    }
    Storage::import_directory(&target, &file).await.unwrap();
    let error = Storage::import_directory(&target, &file).await.unwrap_err();
    assert!(matches!(error, ImportError::NotEmpty { .. }), "{error:?}");
    let error = Storage::import_directory(world.dir.path(), &file).await.unwrap_err();
    let ImportError::Storage(StorageError::Log(error)) = error else { panic!("{error:?}") };
    assert!(matches!(error, helix_log::LogError::InUse { .. }), "{error:?}");
}

/// The child of the next test: imports until it is killed or done.
#[tokio::test]
async fn child_that_imports() {
    let Some(target) = std::env::var_os("HELIX_TEST_IMPORT_INTO") else { return };
    let file = std::env::var_os("HELIX_TEST_IMPORT_FILE").unwrap();
    Storage::import_directory(Path::new(&target), Path::new(&file)).await.unwrap();
}

#[tokio::test]
async fn a_killed_import_is_never_half_an_installation() {
    let world = furnished().await;
    for turn in 0..20 {
        let submitted =
            (0..1000).map(|at| world.engine().submit(connect(turn * 1000 + at), origin(None)));
        for receipt in futures::future::join_all(submitted).await {
            receipt.unwrap();
        }
    }
    let file = world.export().await;
    let mut interrupted = 0;
    for round in 0..12 {
        let target = world.file(&format!("target{round}"));
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_imports", "--nocapture"])
            .env("HELIX_TEST_IMPORT_INTO", &target)
            .env("HELIX_TEST_IMPORT_FILE", &file)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Killed at another moment each time: once so much of the log is there.
        while child.try_wait().unwrap().is_none() {
            let size = |name| std::fs::metadata(target.join(name)).map_or(0, |it| it.len());
            if size("log/log.db") + size("log/log.db-wal") > round * 600_000 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = child.kill();
        child.wait().unwrap();
        copy_keys(&world, &target);
        match Storage::open_directory(&target).await {
            Err(StorageError::HalfImported) => interrupted += 1,
            Err(other) => panic!("{other:?}"),
            Ok(storage) => {
                // Before it began, or after it was done.
                let head = storage.log.head().await.unwrap();
                let whole = world.storage.log.head().await.unwrap();
                assert!(head.position == Position::ZERO || head == whole, "{head:?}");
                if head == whole {
                    continue;
                }
                drop(storage);
                std::fs::remove_file(target.join("keys")).unwrap();
            }
        }
        // The same again goes on where it stopped.
        Storage::import_directory(&target, &file).await.unwrap();
        copy_keys(&world, &target);
        let storage = Storage::open_directory(&target).await.unwrap();
        assert_eq!(storage.log.head().await.unwrap(), world.storage.log.head().await.unwrap());
        assert!(storage.log.receipt("test:key-00000001").await.unwrap().is_some());
        if interrupted >= 3 {
            return;
        }
    }
    assert!(interrupted > 0, "no import was ever caught in the middle");
}
