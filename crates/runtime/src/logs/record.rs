//! One log record and its text form. Start at [`LogLine`].

use serde::{Deserialize, Serialize};

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line a workload wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Unix milliseconds when the shim read its end.
    pub ts_ms: u64,
    /// Where it came from.
    pub stream: LogStream,
    /// The text without line end. Bytes that are not UTF-8 became U+FFFD.
    pub line: String,
    /// The line was longer than [`super::LINE_BYTES_MAX`] and has been cut.
    pub truncated: bool,
    /// Lines lost before this one because they could not be written.
    pub dropped_before: u64,
}

pub(super) fn encode(out: &mut Vec<u8>, ts_ms: u64, stream: LogStream, flag: u8, line: &[u8]) {
    out.extend_from_slice(ts_ms.to_string().as_bytes());
    out.extend_from_slice(match stream {
        LogStream::Stdout => b"\to\t",
        LogStream::Stderr => b"\te\t",
    });
    out.push(flag);
    out.push(b'\t');
    let mut rest = line;
    // Nearly every line has nothing to escape, and is copied whole.
    while let Some(at) = memchr::memchr2(b'\\', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if rest[at] == b'\n' { b"\\n" } else { b"\\\\" });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\n');
}

/// A parsed record.
pub(super) enum Record {
    Line(LogLine),
    /// So many lines could not be written.
    Dropped(u64),
    /// So many lines were written before this segment.
    Before(u64),
}

/// Lines written up to the end of a segment, as far as it tells.
pub(super) fn lines(segment: &[u8]) -> u64 {
    let records = segment.split_inclusive(|byte| *byte == b'\n');
    records.fold(0, |lines, record| match decode(record.strip_suffix(b"\n").unwrap_or_default()) {
        Some(Record::Before(count)) => count,
        Some(Record::Line(_)) => lines + 1,
        Some(Record::Dropped(_)) | None => lines,
    })
}

/// Parses one record without its line end; `None` for a damaged one, e.g. torn
/// by a full disk.
pub(super) fn decode(record: &[u8]) -> Option<Record> {
    let mut fields = record.splitn(4, |byte| *byte == b'\t');
    let ts_ms = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = match fields.next()? {
        b"o" => LogStream::Stdout,
        b"e" => LogStream::Stderr,
        _ => return None,
    };
    let flag = fields.next()?;
    let line = unescape(fields.next()?);
    if flag == b"d" {
        return Some(Record::Dropped(line.parse().ok()?));
    }
    if flag == b"n" {
        return Some(Record::Before(line.parse().ok()?));
    }
    Some(Record::Line(LogLine { ts_ms, stream, line, truncated: flag == b"t", dropped_before: 0 }))
}

fn unescape(escaped: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => bytes.push(match rest.next() {
                Some(b'n') => b'\n',
                Some(&other) => other,
                None => b'\\',
            }),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for line in ["", "plain", "tab\tand \\ and \\n", "line\nbreak", "\u{1f600}"] {
            let mut text = Vec::new();
            encode(&mut text, 7, LogStream::Stderr, b'-', line.as_bytes());
            assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
            text.pop();
            let Some(Record::Line(parsed)) = decode(&text) else {
                panic!("{line:?} did not parse")
            };
            assert_eq!((parsed.line.as_str(), parsed.ts_ms), (line, 7));
        }
    }

    #[test]
    fn damaged_records_are_skipped() {
        for text in ["", "x\to\t-\tz", "12\tq\t-\tz", "12\to"] {
            assert!(decode(text.as_bytes()).is_none(), "{text:?}");
        }
    }
}
