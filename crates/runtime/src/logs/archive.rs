//! Older segments: compressed once they are closed, removed once they are old or
//! too many. Start at [`tidy`].
//!
//! The shim writes plain segments and nothing else, and removes the oldest when
//! nobody has been here for a while. Whoever looks after the machine calls this
//! from time to time; a reader that has a segment open goes on reading it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::DIR;
use super::writer::{plain_numbers, segment_path};

/// zstd's own default: some 300 MB/s for a tenth of the size. A better one would
/// take time from the programs.
const LEVEL: i32 = 3;

/// End of a compressed segment's name.
pub(super) const SUFFIX: &str = ".log.zst";

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of compressed segments of one instance.
    pub bytes: u64,
    /// Age at which a segment goes.
    pub age: Duration,
}

impl Default for Retention {
    /// A week, and some half a gigabyte of text an instance.
    fn default() -> Self {
        Self { bytes: 64 << 20, age: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// Compresses the closed segments of the instance in `dir`, then removes what is
/// beyond the retention. The segment being written is left alone.
///
/// # Errors
/// When files cannot be read, written or removed; what was done stays done.
pub fn tidy(dir: &Path, retention: Retention, now: SystemTime) -> io::Result<()> {
    let dir = dir.join(DIR);
    let mut plain = plain_numbers(&dir)?;
    plain.pop();
    for number in plain {
        compress(&dir, number)?;
    }
    let mut kept_bytes = 0;
    for (_, path) in archived(&dir)?.into_iter().rev() {
        let metadata = fs::metadata(&path)?;
        kept_bytes += metadata.len();
        let age = now.duration_since(metadata.modified()?).unwrap_or_default();
        if kept_bytes > retention.bytes || age > retention.age {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Under another name until it is whole: a kill leaves the plain one.
fn compress(dir: &Path, number: u64) -> io::Result<()> {
    let plain = segment_path(dir, number);
    let mut from = match File::open(&plain) {
        // The shim was faster, and it was the oldest.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        from => from?,
    };
    let modified = from.metadata()?.modified()?;
    let unfinished = dir.join(format!("{number:010}.zst.tmp"));
    let to = File::create(&unfinished)?;
    zstd::stream::copy_encode(&mut from, &to, LEVEL)?;
    // The time of its last line, which retention goes by.
    to.set_modified(modified)?;
    to.sync_data()?;
    fs::rename(&unfinished, archive_path(dir, number))?;
    match fs::remove_file(plain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn archive_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}{SUFFIX}"))
}

/// Compressed segments, oldest first.
fn archived(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((number(&entry.path())?, entry.path())))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Numbers of all segments, plain or compressed, oldest first.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = plain_numbers(dir)?;
    numbers.extend(archived(dir)?.into_iter().map(|(number, _)| number));
    numbers.sort_unstable();
    // Both are there between the two steps of compressing one.
    numbers.dedup();
    Ok(numbers)
}

/// A segment being read.
pub(super) enum Segment {
    /// It may still grow.
    Plain(File),
    /// Closed for good.
    Compressed(Box<dyn Read + Send>),
}

impl Segment {
    /// Opens a segment in whatever form it is; `None` when it has been removed.
    pub(super) fn open(dir: &Path, number: u64) -> io::Result<Option<Self>> {
        match File::open(segment_path(dir, number)) {
            Ok(file) => return Ok(Some(Self::Plain(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match File::open(archive_path(dir, number)) {
            Ok(file) => {
                let decoder = zstd::stream::read::Decoder::new(file)?;
                Ok(Some(Self::Compressed(Box::new(decoder))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogStream, LogWriter, Query, Tail};
    use crate::spec::LogLimits;

    /// Ten lines in segments of two.
    fn written(dir: &Path) -> LogWriter {
        let limits = LogLimits { segment_bytes: 20, segments: 100 };
        let mut log = LogWriter::open(dir, limits).unwrap();
        for number in 0..10 {
            log.push(LogStream::Stdout, format!("line {number}\n").as_bytes(), number);
        }
        log
    }

    fn lines(dir: &Path, query: &Query) -> Vec<String> {
        let lines = Tail::open(dir, query).unwrap().read_available().unwrap();
        lines.into_iter().map(|line| line.line).collect()
    }

    fn all() -> Vec<String> {
        (0..10).map(|number| format!("line {number}")).collect()
    }

    #[test]
    fn what_is_compressed_reads_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = written(dir.path());
        let mut tail = Tail::open(dir.path(), &Query { tail_lines: Some(1), ..Query::default() });
        tidy(dir.path(), Retention::default(), SystemTime::now()).unwrap();
        assert_eq!(plain_numbers(&dir.path().join(DIR)).unwrap().len(), 1);
        assert_eq!(lines(dir.path(), &Query::default()), all());
        let last_two = Query { tail_lines: Some(2), ..Query::default() };
        assert_eq!(lines(dir.path(), &last_two), ["line 8", "line 9"]);
        log.push(LogStream::Stdout, b"more\n", 11);
        let followed = tail.as_mut().unwrap().read_available().unwrap();
        let followed: Vec<_> = followed.into_iter().map(|line| line.line).collect();
        assert_eq!(followed, ["line 9", "more"]);
    }

    #[test]
    fn a_reader_in_the_middle_of_a_segment_reads_on() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { segment_bytes: 1 << 20, segments: 100 };
        let mut log = LogWriter::open(dir.path(), limits).unwrap();
        log.push(LogStream::Stdout, b"one\n", 1);
        let mut tail = Tail::open(dir.path(), &Query::default()).unwrap();
        assert_eq!(tail.read_available().unwrap().len(), 1);
        log.push(LogStream::Stdout, b"two\n", 2);
        let mut log =
            LogWriter::open(dir.path(), LogLimits { segment_bytes: 1, segments: 100 }).unwrap();
        log.push(LogStream::Stdout, b"three\n", 3);
        tidy(dir.path(), Retention::default(), SystemTime::now()).unwrap();
        let rest: Vec<_> =
            tail.read_available().unwrap().into_iter().map(|line| line.line).collect();
        assert_eq!(rest, ["two", "three"]);
    }

    #[test]
    fn the_oldest_go_first_by_size_and_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let _log = written(dir.path());
        tidy(dir.path(), Retention { bytes: 100, ..Retention::default() }, SystemTime::now())
            .unwrap();
        let left = lines(dir.path(), &Query::default());
        assert!(left.len() < 10 && left.ends_with(&["line 9".to_owned()]), "{left:?}");
        let later = SystemTime::now() + Duration::from_secs(8 * 24 * 3600);
        tidy(dir.path(), Retention::default(), later).unwrap();
        let left = lines(dir.path(), &Query::default());
        assert!(left.len() <= 2, "only the segment being written is left: {left:?}");
    }
}
