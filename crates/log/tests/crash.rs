//! Kill -9 loses no acknowledged write.
//!
//! The test runs itself as a child that appends and says on stdout which head
//! was acknowledged; the parent kills it at a random moment, opens what is
//! left, and goes on with the next child on the same data. The seed is printed
//! and can be set with `HELIX_TEST_SEED`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use helix_log::{
    Batch, EventLog, Head, NewEntry, NewReceipt, Position, Snapshot, SqliteLog, Verification,
};

const CHILD_DIRECTORY: &str = "HELIX_TEST_CRASH_DIRECTORY";
const ROUNDS: u32 = 40;

/// A 64-bit xorshift, so that a printed seed repeats the run's choices.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Kills the child however the test ends.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: does nothing unless the parent below started it.
#[tokio::test]
async fn child_that_appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD_DIRECTORY) else {
        return;
    };
    let log = SqliteLog::open(directory).await.unwrap();
    let mut stdout = std::io::stdout();
    // The harness has begun this line with the name of the test.
    writeln!(stdout).unwrap();
    loop {
        let head = log.head().await.unwrap().position;
        let size = 1 + head.0 % 90;
        let entry = |index| NewEntry {
            at_ms: i64::try_from(head.0).unwrap(),
            payload: format!("{index}/{size} {:width$}", "", width = 300).into_bytes(),
        };
        let receipt = NewReceipt {
            key: format!("after-{head}"),
            request_hash: [1; 32],
            body: size.to_string().into_bytes(),
            at_ms: 0,
        };
        let entries = (1..=size).map(entry).collect();
        let batch = Batch { expected: head, entries, receipts: vec![receipt] };
        let last = log.append(batch).await.unwrap().last().unwrap().position;
        writeln!(stdout, "acknowledged {last}").unwrap();
        if size % 7 == 0 {
            let bytes = vec![7; 200_000];
            log.save_snapshot(Snapshot { position: last, format: 1, bytes }).await.unwrap();
        }
    }
}

#[tokio::test]
async fn kill_9_loses_no_acknowledged_entry() {
    let seed = seed();
    println!("HELIX_TEST_SEED={seed}");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..ROUNDS {
        let acknowledged = append_until_killed(directory.path(), &mut random);
        let log = SqliteLog::open(directory.path()).await.unwrap();
        let head = log.head().await.unwrap();
        assert!(head.position >= acknowledged, "round {round}: {head:?} < {acknowledged:?}");
        assert_eq!(log.verify().await.unwrap(), Verification::Intact(head), "round {round}");
        total = check_batches(&log, head).await;
    }
    assert!(total >= u64::from(ROUNDS), "the children hardly wrote: {total} batches");
}

fn seed() -> u64 {
    let given = std::env::var("HELIX_TEST_SEED").ok().and_then(|it| it.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 | 1
    })
}

/// Returns the last position that was acknowledged before the kill.
fn append_until_killed(directory: &Path, random: &mut Random) -> Position {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_until_it_is_killed", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = Writer(child);
    let mut output = BufReader::new(writer.0.stdout.take().unwrap());
    let mut last = Position::ZERO;
    let mut line = String::new();
    let mut note = |line: &str| {
        let number = line.strip_prefix("acknowledged ").and_then(|it| it.strip_suffix('\n'));
        if let Some(number) = number {
            last = Position(number.parse().unwrap());
        }
        number.is_some()
    };
    let mut wanted = 1 + random.below(12);
    while wanted > 0 {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended by itself");
        wanted -= u64::from(note(&line));
    }
    wait_into_an_append(Duration::from_micros(random.below(4000)));
    writer.0.kill().unwrap();
    writer.0.wait().unwrap();
    loop {
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 {
            return last;
        }
        note(&line);
    }
}

/// Moves the kill to any point of an append; there is no condition to wait for,
/// since nobody can see from outside where the child is.
fn wait_into_an_append(pause: Duration) {
    std::thread::sleep(pause);
}

/// Every batch is there whole, and its receipt with it. Returns how many.
async fn check_batches(log: &SqliteLog, head: Head) -> u64 {
    let mut batches = 0;
    let mut start = Position::ZERO;
    while start < head.position {
        let key = format!("after-{start}");
        let receipt = log.receipt(&key).await.unwrap().expect("a receipt for each batch");
        let size: u64 = String::from_utf8(receipt.body).unwrap().parse().unwrap();
        assert_eq!(receipt.position.0, start.0 + size);
        let entries = log.read(start, usize::try_from(size).unwrap()).await.unwrap();
        for (entry, index) in entries.iter().zip(1..) {
            assert!(entry.payload.starts_with(format!("{index}/{size} ").as_bytes()));
        }
        assert_eq!(entries.len() as u64, size);
        start = receipt.position;
        batches += 1;
    }
    assert_eq!(start, head.position);
    batches
}
