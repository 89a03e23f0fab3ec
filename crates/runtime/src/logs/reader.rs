//! Reads a log back, also while it grows and rotates. Start at [`read`], or at
//! [`Tail`] for the synchronous part.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use super::archive::{Segment, numbers};
use super::record::{self, Record};
use super::{DIR, LogLine};
use crate::status::Status;

/// How often a followed log is looked at. Polling costs one `stat`-like read per
/// follower and works on every filesystem, which watching does not.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

/// Lines buffered towards a slow consumer; then reading, not the app, waits.
const BUFFERED_LINES: usize = 256;

/// Which lines to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only the last so many of those present; `None` for all.
    pub tail_lines: Option<usize>,
    /// Only lines at or after this Unix millisecond.
    pub since_ms: Option<u64>,
    /// Go on with new lines until the instance is over.
    pub follow: bool,
}

/// Streams the log of the instance in `dir`. The stream ends after the lines
/// present, or with `follow` when the instance is over; dropping the receiver
/// stops the reading. An absent log is an empty one.
#[must_use]
pub fn read(dir: &Path, query: Query) -> mpsc::Receiver<io::Result<LogLine>> {
    let (sender, receiver) = mpsc::channel(BUFFERED_LINES);
    let dir = dir.to_owned();
    tokio::spawn(async move {
        if let Err(error) = run(&dir, query, &sender).await {
            // The consumer may have gone, which is its way to stop us.
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}

async fn run(
    dir: &Path,
    query: Query,
    sender: &mpsc::Sender<io::Result<LogLine>>,
) -> io::Result<()> {
    let mut tail = Tail::open(dir, &query)?;
    loop {
        // Asked before reading, so the lines of an ending instance are not missed.
        let over = Status::load(dir)?
            .is_none_or(|status| status.state.is_final() || !status.shim.is_alive());
        for line in tail.read_available()? {
            if sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        if over || !query.follow || sender.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

/// A position in a log.
pub struct Tail {
    dir: PathBuf,
    since_ms: u64,
    segment: Option<(u64, Segment)>,
    /// A record whose end is not written yet.
    partial: Vec<u8>,
    dropped: u64,
    /// Lines written up to here, once a segment has told.
    lines: Option<u64>,
    /// Lines already read when the tail was determined.
    pending: VecDeque<LogLine>,
}

impl Tail {
    /// Places a reader where `query` says.
    pub fn open(dir: &Path, query: &Query) -> io::Result<Self> {
        Self::open_matching(dir, query, |_| true)
    }

    /// The same for a reader of those lines only that `keep` wants: they alone
    /// are counted for the tail.
    pub fn open_matching(
        dir: &Path,
        query: &Query,
        keep: impl Fn(&LogLine) -> bool,
    ) -> io::Result<Self> {
        let mut tail = Self {
            dir: dir.join(DIR),
            since_ms: query.since_ms.unwrap_or(0),
            segment: None,
            partial: Vec::new(),
            dropped: 0,
            lines: None,
            pending: VecDeque::new(),
        };
        if numbers(&tail.dir)?.is_empty() {
            // Whatever comes, it comes after this.
            tail.lines = Some(0);
        }
        if let Some(count) = query.tail_lines {
            let mut last = VecDeque::new();
            tail.read_records(&keep, |line| {
                last.push_back(line);
                if last.len() > count {
                    last.pop_front();
                }
            })?;
            tail.pending = last;
        }
        Ok(tail)
    }

    /// Everything written since the last call.
    pub fn read_available(&mut self) -> io::Result<Vec<LogLine>> {
        self.read_matching(|_| true)
    }

    /// Everything written since the last call that `keep` wants.
    pub fn read_matching(&mut self, keep: impl Fn(&LogLine) -> bool) -> io::Result<Vec<LogLine>> {
        let mut lines: Vec<LogLine> = self.pending.drain(..).collect();
        self.read_records(&keep, |line| lines.push(line))?;
        Ok(lines)
    }

    fn read_records(
        &mut self,
        keep: &impl Fn(&LogLine) -> bool,
        mut take: impl FnMut(LogLine),
    ) -> io::Result<()> {
        loop {
            if self.segment.is_none() {
                let Some(oldest) = numbers(&self.dir)?.first().copied() else {
                    return Ok(());
                };
                self.enter(oldest)?;
            }
            // Looked up before reading: a segment with a successor gets no more.
            let current = self.segment.as_ref().map_or(0, |(number, _)| *number);
            let next = numbers(&self.dir)?.into_iter().find(|number| *number > current);
            self.read_segment(keep, &mut take)?;
            let Some(next) = next else { return Ok(()) };
            self.partial.clear();
            self.enter(next)?;
        }
    }

    fn enter(&mut self, number: u64) -> io::Result<()> {
        if number == 1 {
            self.lines = Some(0);
        }
        // Removed in between, and the loop picks the oldest again.
        self.segment = Segment::open(&self.dir, number)?.map(|segment| (number, segment));
        Ok(())
    }

    fn read_segment(
        &mut self,
        keep: &impl Fn(&LogLine) -> bool,
        take: &mut impl FnMut(LogLine),
    ) -> io::Result<()> {
        let Some((_, segment)) = &mut self.segment else {
            return Ok(());
        };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match segment {
                Segment::Plain(file) => {
                    // The writer takes back a torn record by cutting the file.
                    let position = file.stream_position()?;
                    if file.metadata()?.len() < position {
                        file.seek(SeekFrom::End(0))?;
                        self.partial.clear();
                    }
                    file.read(&mut buffer)?
                }
                Segment::Compressed(decoder) => decoder.read(&mut buffer)?,
            };
            if count == 0 {
                return Ok(());
            }
            self.partial.extend_from_slice(&buffer[..count]);
            let mut start = 0;
            while let Some(length) = memchr::memchr(b'\n', &self.partial[start..]) {
                match record::decode(&self.partial[start..start + length]) {
                    Some(Record::Dropped(count)) => self.dropped += count,
                    Some(Record::Before(count)) => {
                        // Segments that were removed before they could be read.
                        self.dropped += self.lines.map_or(0, |seen| count.saturating_sub(seen));
                        self.lines = Some(count);
                    }
                    Some(Record::Line(mut line)) => {
                        self.lines = self.lines.map(|lines| lines + 1);
                        if line.ts_ms >= self.since_ms && keep(&line) {
                            line.dropped_before = std::mem::take(&mut self.dropped);
                            take(line);
                        }
                    }
                    None => {}
                }
                start += length + 1;
            }
            self.partial.drain(..start);
        }
    }
}
