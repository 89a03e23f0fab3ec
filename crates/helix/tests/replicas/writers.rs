//! Clients that write all the time, each request under a key of its own, and an
//! account of what they were told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api;
use crate::world::{tool, until};

const WRITERS: usize = 3;

/// Between two writes of one writer: each is an app with an instance, and the
/// machine has other work.
const PACE: Duration = Duration::from_millis(400);

/// Writers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<Vec<Account>>>,
}

/// One request and its answer.
pub struct Account {
    pub key: String,
    pub app: String,
    pub body: String,
    /// The receipt, or the code of the refusal.
    pub answer: Result<Value, String>,
}

/// Everything that was asked and answered.
pub struct Accounts(pub Vec<Account>);

impl Writers {
    /// Starts them; the app of the folder has been deployed and its image is used
    /// again.
    pub fn start(replicas: &[SocketAddr], folder: &Path) -> Writers {
        let image = image(replicas[0]);
        assert!(folder.join("helix.toml").is_file());
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let writer = |number| {
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            let (replicas, image) = (replicas.to_vec(), image.clone());
            std::thread::spawn(move || {
                let mut accounts = Vec::new();
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    let account = write(&replicas, number, turn, &image);
                    accepted.fetch_add(usize::from(account.answer.is_ok()), Ordering::Relaxed);
                    accounts.push(account);
                    turn += 1;
                    wait_for_the_next();
                }
                accounts
            })
        };
        let writers = (0..WRITERS).map(writer).collect();
        Writers { stop, accepted, writers }
    }

    /// Waits until more has been accepted.
    pub fn go_on(&self) {
        let enough = self.accepted.load(Ordering::Relaxed) + 2 * WRITERS;
        until("more to be accepted", || self.accepted.load(Ordering::Relaxed) >= enough);
    }

    /// Stops, and tells.
    pub fn finish(self) -> Accounts {
        self.stop.store(true, Ordering::Relaxed);
        let writers = self.writers.into_iter();
        Accounts(writers.flat_map(|writer| writer.join().expect("a writer")).collect())
    }
}

impl Accounts {
    pub fn accepted(&self) -> usize {
        self.0.iter().filter(|account| account.answer.is_ok()).count()
    }

    pub fn refused(&self) -> usize {
        self.0.len() - self.accepted()
    }

    /// Every key gives the answer it gave, whoever is asked.
    pub fn same_receipts_everywhere(&self, replicas: &[SocketAddr]) {
        for account in self.0.iter().filter(|account| account.answer.is_ok()) {
            for replica in replicas {
                let again = api::post(&[*replica], 0, &account.key, "/v1/deploys", &account.body);
                let receipt: Value = serde_json::from_str(&again.body).unwrap();
                assert_eq!(Some(&receipt), account.answer.as_ref().ok(), "{}", account.key);
            }
        }
    }
}

/// Deploys a new app whose host name the other writers want in the same turn.
fn write(replicas: &[SocketAddr], writer: usize, turn: usize, image: &str) -> Account {
    let app = format!("app-{writer}-{turn}");
    let endpoint =
        "[[endpoints]]\nname = \"http\"\nprocess = \"web\"\nport = \"http\"\nprotocol = \"http\"\n";
    // Most have no instance to start: the machine is busy enough.
    let count = usize::from(turn.is_multiple_of(4));
    let scaling = format!("[processes.web]\nscaling = {{ min = {count}, max = 1 }}");
    let manifest = tool::MANIFEST.replace("\"tool\"", &format!("{app:?}"));
    let manifest = manifest.replace("[processes.web]", &scaling);
    let manifest = format!("{manifest}\n{endpoint}host = \"turn-{turn}.localhost\"\n");
    let body = json!({
        "org": "default", "project": "default", "app": app, "env": "production",
        "manifest": manifest, "image": image,
    });
    let (body, key) = (body.to_string(), format!("writer-{writer}-turn-{turn}"));
    let reply = api::post(replicas, writer + turn, &key, "/v1/deploys", &body);
    let document: Value = serde_json::from_str(&reply.body).expect("a document");
    let code = || document["code"].as_str().unwrap_or_default().to_owned();
    let answer = if reply.status == 200 { Ok(document.clone()) } else { Err(code()) };
    Account { key, app, body, answer }
}

/// The image of the tool, as it was pushed.
fn image(replica: SocketAddr) -> String {
    let releases = api::get(replica, "/v1/releases?org=default&project=default&app=tool");
    let image = &releases["items"][0]["desired"]["image"];
    let text = |name: &str| image[name].as_str().unwrap_or_default().to_owned();
    format!("{}@{}", text("repository"), text("digest"))
}

fn wait_for_the_next() {
    std::thread::sleep(PACE);
}
