//! Program output cut into lines of bounded length.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::BuildOutput;
use crate::limits::BUILD_LINE_BYTES_MAX;

/// Hands each line to `output` until the stream ends. A line longer than the
/// limit is cut there; its rest counts as the next line.
pub(super) async fn forward(mut stream: impl AsyncRead + Unpin, output: BuildOutput) {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        for &byte in &buffer[..count] {
            if byte == b'\n' || line.len() == BUILD_LINE_BYTES_MAX {
                emit(&mut line, &output);
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        emit(&mut line, &output);
    }
}

fn emit(line: &mut Vec<u8>, output: &BuildOutput) {
    output(String::from_utf8_lossy(line).trim_end_matches('\r'));
    line.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn lines_are_whole_and_bounded() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let output: BuildOutput = Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let long = "x".repeat(BUILD_LINE_BYTES_MAX + 1);
        let text = format!("a\r\n\n{long}\nend");
        forward(text.as_bytes(), output).await;
        let lines = seen.lock().unwrap();
        assert_eq!(lines[0], "a");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2].len(), BUILD_LINE_BYTES_MAX);
        assert_eq!(&lines[3..], ["x", "end"]);
    }
}
