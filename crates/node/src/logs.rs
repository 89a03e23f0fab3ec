//! Output of several instances as one stream, in the order of time.
//!
//! Lines present are merged exactly. While following, what arrives within one
//! look is merged; between instances the order is that close and no closer. The
//! lines of one instance stay in the order they were written in, whatever was
//! done to the clock meanwhile.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::iter::Peekable;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use helix_model::api::LogLine;
use helix_model::{Id, Instance, LogFilter, LogMatcher, LogStream as LogStreamName, Timestamp};
use helix_runtime::logs::{LogStream as Output, Query, Tail};
use tokio::sync::mpsc;

use crate::machine::chain;
use crate::shared::Shared;
use crate::slot::Slot;

/// How often followed logs are looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

/// Lines on their way to a slow reader.
const BUFFERED_LINES: usize = 256;

/// Most lines handed out of what is present: they are sorted in memory.
const TAIL_LINES_MAX: usize = 10_000;

/// Which lines to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only the last so many of those present, over all instances.
    pub tail_lines: Option<usize>,
    /// Only lines at or after this Unix millisecond.
    pub since_ms: Option<u64>,
    /// Go on with new lines until every instance is gone.
    pub follow: bool,
    /// Which lines count. A pattern that cannot be used matches nothing.
    pub filter: LogFilter,
}

/// Lines of output. Dropping it stops the reading.
pub struct LogStream(mpsc::Receiver<LogLine>);

impl LogStream {
    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Option<LogLine> {
        self.0.recv().await
    }
}

impl futures::Stream for LogStream {
    type Item = LogLine;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<LogLine>> {
        self.0.poll_recv(context)
    }
}

/// One instance's log being read.
struct Source {
    id: Id<Instance>,
    dir: PathBuf,
    /// `None` until there is something to read.
    tail: Option<Tail>,
    label: Option<(String, String)>,
}

pub(crate) fn read(shared: &Arc<Shared>, instances: &[Id<Instance>], query: LogQuery) -> LogStream {
    let (sender, receiver) = mpsc::channel(BUFFERED_LINES);
    let source = |id: &Id<Instance>| {
        let plan = shared.live().get(id).cloned();
        let label = plan.map(|plan| (plan.name.to_string(), plan.process.to_string()));
        Source { id: *id, dir: shared.config.instance_dir(*id), tail: None, label }
    };
    let sources = instances.iter().map(source).collect();
    let shared = shared.clone();
    tokio::spawn(async move { run(&shared, sources, query, &sender).await });
    LogStream(receiver)
}

async fn run(
    shared: &Shared,
    mut sources: Vec<Source>,
    query: LogQuery,
    sender: &mpsc::Sender<LogLine>,
) {
    let Ok(matcher) = query.filter.matcher() else { return };
    let count = query.tail_lines.unwrap_or(TAIL_LINES_MAX).min(TAIL_LINES_MAX);
    let mut tail_lines = Some(count);
    loop {
        // Asked before reading, so that the last lines of an ending instance
        // are not missed.
        let living = sources.iter().any(|source| shared.live().contains_key(&source.id));
        let matcher = matcher.clone();
        let read = move || {
            let lines = look(&mut sources, query.since_ms, tail_lines, &matcher);
            (sources, lines)
        };
        let Ok((back, lines)) = tokio::task::spawn_blocking(read).await else {
            return;
        };
        sources = back;
        let surplus = lines.len().saturating_sub(tail_lines.take().unwrap_or(usize::MAX));
        for line in lines.into_iter().skip(surplus) {
            if sender.send(line).await.is_err() {
                return;
            }
        }
        if !query.follow || !living || sender.is_closed() {
            return;
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

/// Everything new, in the order of time.
fn look(
    sources: &mut [Source],
    since_ms: Option<u64>,
    tail_lines: Option<usize>,
    matcher: &LogMatcher,
) -> Vec<LogLine> {
    let mut all = Vec::new();
    for source in sources {
        match source.look(since_ms, tail_lines, matcher) {
            Ok(new) => all.push(new),
            Err(error) => {
                tracing::warn!(instance = %source.id, error = chain(&error), "cannot read its log");
            }
        }
    }
    merge(all)
}

/// Of what comes next of each, the earliest, until nothing is left. Sorting instead would
/// turn the lines of one instance round where the clock was set back.
fn merge(sources: Vec<Vec<LogLine>>) -> Vec<LogLine> {
    let mut merged = Vec::with_capacity(sources.iter().map(Vec::len).sum());
    let mut sources: Vec<_> = sources.into_iter().map(|it| it.into_iter().peekable()).collect();
    let next = |index: usize, source: &mut Peekable<_>| {
        source.peek().map(|line: &LogLine| Reverse((line.ts, index)))
    };
    let first = sources.iter_mut().enumerate().filter_map(|(index, source)| next(index, source));
    let mut heads: BinaryHeap<_> = first.collect();
    while let Some(Reverse((_, index))) = heads.pop() {
        merged.extend(sources[index].next());
        heads.extend(next(index, &mut sources[index]));
    }
    merged
}

impl Source {
    fn look(
        &mut self,
        since_ms: Option<u64>,
        tail_lines: Option<usize>,
        matcher: &LogMatcher,
    ) -> io::Result<Vec<LogLine>> {
        let keep = |line: &helix_runtime::logs::LogLine| {
            matcher.matches(time(line.ts_ms), stream(line.stream), &line.line)
        };
        if self.tail.is_none() {
            let query = Query { tail_lines, since_ms, follow: false };
            self.tail = Some(Tail::open_matching(&self.dir, &query, keep)?);
        }
        let Some(tail) = &mut self.tail else {
            return Ok(Vec::new());
        };
        let new = tail.read_matching(keep)?;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let (name, process) = self.label.get_or_insert_with(|| label(&self.dir, self.id)).clone();
        let id = self.id.to_string();
        let line = |line: helix_runtime::logs::LogLine| LogLine {
            kind: "log".to_owned(),
            ts: time(line.ts_ms),
            instance: name.clone(),
            instance_id: id.clone(),
            process: process.clone(),
            stream: match line.stream {
                Output::Stdout => "stdout".to_owned(),
                Output::Stderr => "stderr".to_owned(),
            },
            line: line.line,
            truncated: line.truncated,
            dropped: line.dropped_before,
        };
        Ok(new.into_iter().map(line).collect())
    }
}

fn time(ms: u64) -> Timestamp {
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn stream(output: Output) -> LogStreamName {
    match output {
        Output::Stdout => LogStreamName::Stdout,
        Output::Stderr => LogStreamName::Stderr,
    }
}

/// Name and process of an instance that is gone.
fn label(dir: &std::path::Path, id: Id<Instance>) -> (String, String) {
    match Slot::load(dir) {
        Some(slot) => (slot.name.to_string(), slot.process.to_string()),
        None => (id.to_string(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(instance: &str, times: &[i64]) -> Vec<LogLine> {
        let line = |ts: &i64| LogLine {
            kind: "log".to_owned(),
            ts: Timestamp(*ts),
            instance: instance.to_owned(),
            instance_id: String::new(),
            process: String::new(),
            stream: "stdout".to_owned(),
            line: format!("{instance}{ts}"),
            truncated: false,
            dropped: 0,
        };
        times.iter().map(line).collect()
    }

    fn merged(sources: Vec<Vec<LogLine>>) -> Vec<String> {
        merge(sources).into_iter().map(|line| line.line).collect()
    }

    #[test]
    fn lines_of_several_are_in_the_order_of_time() {
        let sources = vec![lines("a", &[1, 4, 4, 9]), vec![], lines("b", &[2, 4, 5])];
        assert_eq!(merged(sources), ["a1", "b2", "a4", "a4", "b4", "b5", "a9"]);
    }

    #[test]
    fn a_clock_that_is_set_back_turns_nothing_round() {
        let sources = vec![lines("a", &[7, 8, 1, 2]), lines("b", &[7, 9, 1])];
        assert_eq!(merged(sources), ["a7", "b7", "a8", "a1", "a2", "b9", "b1"]);
    }
}
