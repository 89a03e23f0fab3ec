//! Writes a workload's output into size-bounded segments. Start at
//! [`LogWriter::push`].
//!
//! Writing goes to files and never waits for a reader, so nobody who reads the
//! log can stop the workload. What cannot be written is dropped and counted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::record::{self, LogStream};
use super::{DIR, LINE_BYTES_MAX};
use crate::spec::LogLimits;

/// Cuts two streams into lines and stores them.
pub(crate) struct LogWriter {
    segments: Segments,
    stdout: Line,
    stderr: Line,
    /// Lines lost since the last one that was stored.
    dropped: u64,
    scratch: Vec<u8>,
}

/// The line being received on one stream.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    truncated: bool,
}

impl LogWriter {
    /// Opens the log of the instance in `dir`, behind what earlier runs wrote.
    pub(crate) fn open(dir: &Path, limits: LogLimits) -> io::Result<Self> {
        Ok(Self {
            segments: Segments::open(dir.join(DIR), limits)?,
            stdout: Line::default(),
            stderr: Line::default(),
            dropped: 0,
            scratch: Vec::new(),
        })
    }

    /// Takes bytes as they were read. Whole lines are written at once and all in
    /// one go, the rest waits for its end.
    pub(crate) fn push(&mut self, stream: LogStream, mut bytes: &[u8], now_ms: u64) {
        let mut batch = self.batch(stream, now_ms);
        let mut count = 0;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend(stream, &bytes[..end]);
            self.line(stream).end(&mut batch, stream, now_ms);
            bytes = &bytes[end + 1..];
            count += 1;
        }
        self.extend(stream, bytes);
        self.store(batch, count, now_ms);
    }

    /// Writes a line that never got its end. Call when the stream is over.
    pub(crate) fn finish(&mut self, stream: LogStream, now_ms: u64) {
        if !self.line(stream).bytes.is_empty() {
            let mut batch = self.batch(stream, now_ms);
            self.line(stream).end(&mut batch, stream, now_ms);
            self.store(batch, 1, now_ms);
        }
    }

    fn line(&mut self, stream: LogStream) -> &mut Line {
        match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        }
    }

    fn extend(&mut self, stream: LogStream, bytes: &[u8]) {
        let line = self.line(stream);
        let room = LINE_BYTES_MAX - line.bytes.len();
        line.truncated |= bytes.len() > room;
        line.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Begins records to write, with what was lost before them.
    fn batch(&mut self, stream: LogStream, now_ms: u64) -> Vec<u8> {
        let mut batch = std::mem::take(&mut self.scratch);
        batch.clear();
        if self.dropped > 0 {
            let count = self.dropped.to_string();
            record::encode(&mut batch, now_ms, stream, b'd', count.as_bytes());
        }
        batch
    }

    /// Writes the records of so many lines.
    fn store(&mut self, batch: Vec<u8>, lines: u64, now_ms: u64) {
        if lines > 0 {
            match self.segments.write(&batch, lines, now_ms) {
                Ok(()) => self.dropped = 0,
                Err(_) => self.dropped += lines,
            }
        }
        self.scratch = batch;
    }
}

impl Line {
    /// Adds the record of the line and begins the next one.
    fn end(&mut self, batch: &mut Vec<u8>, stream: LogStream, now_ms: u64) {
        let bytes = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        let flag = if self.truncated { b't' } else { b'-' };
        record::encode(batch, now_ms, stream, flag, bytes);
        self.bytes.clear();
        self.truncated = false;
    }
}

/// The numbered files.
struct Segments {
    dir: PathBuf,
    limits: LogLimits,
    number: u64,
    file: File,
    size_bytes: u64,
    /// Lines in this and all earlier segments, removed ones included.
    lines: u64,
}

impl Segments {
    fn open(dir: PathBuf, limits: LogLimits) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let number = super::archive::numbers(&dir)?.last().copied().unwrap_or(1);
        let file = append(&dir, number)?;
        let size_bytes = file.metadata()?.len();
        let lines = record::lines(&fs::read(segment_path(&dir, number))?);
        Ok(Self { dir, limits, number, file, size_bytes, lines })
    }

    fn write(&mut self, records: &[u8], lines: u64, now_ms: u64) -> io::Result<()> {
        if self.size_bytes >= self.limits.segment_bytes {
            self.rotate(now_ms)?;
        }
        if let Err(error) = self.file.write_all(records) {
            // Part of a record may be there; take it back so the next one does
            // not continue it.
            self.file.set_len(self.size_bytes)?;
            return Err(error);
        }
        self.size_bytes += records.len() as u64;
        self.lines += lines;
        Ok(())
    }

    /// Begins the next segment, which says how many lines there were before it: a
    /// reader too slow for what is removed can tell what it has missed.
    fn rotate(&mut self, now_ms: u64) -> io::Result<()> {
        self.file = append(&self.dir, self.number + 1)?;
        self.number += 1;
        let mut head = Vec::new();
        let count = self.lines.to_string();
        record::encode(&mut head, now_ms, LogStream::Stdout, b'n', count.as_bytes());
        self.file.write_all(&head)?;
        self.size_bytes = head.len() as u64;
        let kept = u64::from(self.limits.segments.max(2));
        for old in plain_numbers(&self.dir)? {
            if old + kept <= self.number {
                fs::remove_file(segment_path(&self.dir, old))?;
            }
        }
        Ok(())
    }
}

fn append(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(segment_path(dir, number))
}

/// Path of one segment.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

/// Numbers of the segments not compressed, oldest first.
pub(super) fn plain_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Query, Tail};

    fn lines(dir: &Path) -> Vec<crate::logs::LogLine> {
        Tail::open(dir, &Query::default()).unwrap().read_available().unwrap()
    }

    #[test]
    fn lines_are_cut_by_newline_and_flushed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), LogLimits::default()).unwrap();
        log.push(LogStream::Stdout, b"one\ntw", 1);
        log.push(LogStream::Stderr, b"err\r\n", 2);
        log.push(LogStream::Stdout, b"o\nthree", 3);
        log.finish(LogStream::Stdout, 4);
        let got: Vec<_> = lines(dir.path()).into_iter().map(|l| (l.ts_ms, l.line)).collect();
        let want = [(1, "one"), (2, "err"), (3, "two"), (4, "three")];
        assert_eq!(got, want.map(|(ts, line)| (ts, line.to_owned())));
    }

    #[test]
    fn a_long_line_is_cut_and_flagged_and_the_next_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), LogLimits::default()).unwrap();
        log.push(LogStream::Stdout, &vec![b'x'; LINE_BYTES_MAX + 5], 1);
        log.push(LogStream::Stdout, b"more\nnext\n", 1);
        let got = lines(dir.path());
        assert_eq!((got[0].line.len(), got[0].truncated), (LINE_BYTES_MAX, true));
        assert_eq!((got[1].line.as_str(), got[1].truncated), ("next", false));
    }

    #[test]
    fn old_segments_go_and_a_reopened_log_continues() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { segment_bytes: 100, segments: 3 };
        for run in 0..2 {
            let mut log = LogWriter::open(dir.path(), limits).unwrap();
            for number in 0..50 {
                log.push(LogStream::Stdout, format!("run {run} line {number}\n").as_bytes(), 1);
            }
        }
        assert_eq!(plain_numbers(&dir.path().join(DIR)).unwrap().len(), 3);
        let got = lines(dir.path());
        assert_eq!(got.last().unwrap().line, "run 1 line 49");
        assert!(got.len() < 20, "old lines are gone, {} left", got.len());
    }

    #[test]
    fn a_follower_sees_each_line_once_across_segments() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { segment_bytes: 64, segments: 100 };
        let mut log = LogWriter::open(dir.path(), limits).unwrap();
        let query = Query { tail_lines: Some(0), ..Query::default() };
        log.push(LogStream::Stdout, b"before\n", 1);
        let mut tail = Tail::open(dir.path(), &query).unwrap();
        let mut seen = Vec::new();
        for number in 0..40 {
            log.push(LogStream::Stdout, format!("{number}\nhalf").as_bytes(), 1);
            if number % 3 == 0 {
                seen.extend(tail.read_available().unwrap());
            }
        }
        seen.extend(tail.read_available().unwrap());
        let seen: Vec<_> = seen.into_iter().map(|line| line.line).collect();
        let lines = (1..40).map(|number| format!("half{number}"));
        assert_eq!(seen, ["0".to_owned()].into_iter().chain(lines).collect::<Vec<_>>());
    }

    #[test]
    fn a_follower_too_slow_is_told_what_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { segment_bytes: 64, segments: 2 };
        let mut tail = Tail::open(dir.path(), &Query::default()).unwrap();
        let mut seen = 0;
        let mut missed = 0;
        for round in 0..4 {
            // Also across a restart of the program.
            let mut log = LogWriter::open(dir.path(), limits).unwrap();
            for number in 0..50 {
                log.push(LogStream::Stdout, format!("{round} {number}\n").as_bytes(), 1);
            }
            for line in tail.read_available().unwrap() {
                seen += 1;
                missed += line.dropped_before;
            }
        }
        assert!(missed > 100, "{missed}");
        assert_eq!(seen + missed, 200);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), LogLimits::default()).unwrap();
        let writable = std::mem::replace(
            &mut log.segments.file,
            OpenOptions::new().read(true).open("/dev/null").unwrap(),
        );
        log.push(LogStream::Stdout, b"lost\nlost\n", 1);
        log.segments.file = writable;
        log.push(LogStream::Stdout, b"kept\n", 1);
        let got = lines(dir.path());
        assert_eq!((got[0].line.as_str(), got[0].dropped_before), ("kept", 2));
    }
}
