//! Which lines of output are wanted, beyond whose they are and since when. Start
//! at [`LogFilter::matcher`].
//!
//! One noun for every room a line passes: the API checks it, a node applies it
//! before it counts lines, so that "the last 200" are 200 that match. It must not
//! know where lines are kept.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::{Code, Problem, Timestamp};

/// Longest pattern, bytes. People type them.
const GREP_BYTES_MAX: usize = 1024;

/// Memory a compiled pattern may take, bytes: repeats of repeats grow without
/// bound otherwise. Matching itself takes time linear in the line.
const GREP_COMPILED_BYTES_MAX: usize = 1 << 20;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// What a line must be to be wanted. The default wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFilter {
    /// Only lines before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only lines in which this regular expression is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Only lines of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
}

/// A filter ready to be applied.
#[derive(Clone, Debug, Default)]
pub struct LogMatcher {
    until: Option<Timestamp>,
    grep: Option<Regex>,
    stream: Option<LogStream>,
}

impl LogFilter {
    /// Prepares it.
    ///
    /// # Errors
    /// `invalid_argument` when `grep` is no regular expression, or too large.
    pub fn matcher(&self) -> Result<LogMatcher, Problem> {
        let refused = |detail: String| {
            Problem::new(Code::InvalidArgument, detail).field("grep", "not a pattern to use")
        };
        let grep = match &self.grep {
            None => None,
            Some(text) if text.len() > GREP_BYTES_MAX => {
                return Err(refused(format!("a pattern has at most {GREP_BYTES_MAX} bytes")));
            }
            Some(text) => {
                let built = RegexBuilder::new(text).size_limit(GREP_COMPILED_BYTES_MAX).build();
                Some(built.map_err(|error| refused(error.to_string()))?)
            }
        };
        Ok(LogMatcher { until: self.until, grep, stream: self.stream })
    }
}

impl LogMatcher {
    /// Whether a line is wanted.
    #[must_use]
    pub fn matches(&self, at: Timestamp, stream: LogStream, line: &str) -> bool {
        self.until.is_none_or(|until| at < until)
            && self.stream.is_none_or(|wanted| wanted == stream)
            && self.grep.as_ref().is_none_or(|grep| grep.is_match(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &LogFilter) -> bool {
        filter.matcher().unwrap().matches(Timestamp(7), LogStream::Stderr, "GET /shop 500")
    }

    #[test]
    fn every_condition_must_hold() {
        assert!(matches(&LogFilter::default()));
        let filter = LogFilter {
            until: Some(Timestamp(8)),
            grep: Some("5[0-9]{2}$".to_owned()),
            stream: Some(LogStream::Stderr),
        };
        assert!(matches(&filter));
        assert!(!matches(&LogFilter { until: Some(Timestamp(7)), ..filter.clone() }));
        assert!(!matches(&LogFilter { grep: Some("^500".to_owned()), ..filter.clone() }));
        assert!(!matches(&LogFilter { stream: Some(LogStream::Stdout), ..filter }));
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_refused_with_its_place() {
        for text in ["(", "(?:x{1000}){1000}", &"x".repeat(2000)] {
            let filter = LogFilter { grep: Some(text.to_owned()), ..LogFilter::default() };
            assert_eq!(filter.matcher().unwrap_err().code, Code::InvalidArgument, "{text}");
        }
    }
}
