//! Appends what it reads to the log of a data directory, as fast as that goes:
//! each line the time in milliseconds, a space and the payload. `cargo xtask bench
//! startup` makes a long log with it.
//!
//!     append DIRECTORY < LINES

use std::io::{self, BufRead};
use std::process::ExitCode;

use helix_log::{Batch, EventLog, LogError, NewEntry, Position, SqliteLog};

/// Entries of one append.
const BATCH: usize = 5000;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        return told(&"usage: append DIRECTORY < LINES".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let appended = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            let log = SqliteLog::open(&directory).await?;
            append(&log, io::stdin().lock()).await?;
            log.close().await.map_err(Failure::from)
        })
    });
    match appended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(&error),
    }
}

fn told(error: &Failure) -> ExitCode {
    // Nobody is left to tell when this fails.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{error}\n"));
    ExitCode::FAILURE
}

async fn append(log: &SqliteLog, lines: impl BufRead) -> Result<(), Failure> {
    let mut head = log.head().await?.position;
    let mut entries = Vec::with_capacity(BATCH);
    for line in lines.lines() {
        entries.push(entry(&line?)?);
        if entries.len() == BATCH {
            head = write(log, head, std::mem::take(&mut entries)).await?;
        }
    }
    write(log, head, entries).await?;
    Ok(())
}

async fn write(
    log: &SqliteLog,
    head: Position,
    entries: Vec<NewEntry>,
) -> Result<Position, LogError> {
    let count = entries.len() as u64;
    log.append(Batch::of_entries(head, entries)).await?;
    Ok(Position(head.0 + count))
}

fn entry(line: &str) -> Result<NewEntry, Failure> {
    let (at_ms, payload) = line.split_once(' ').ok_or("a line has a time and a payload")?;
    Ok(NewEntry { at_ms: at_ms.parse()?, payload: payload.as_bytes().to_vec() })
}
