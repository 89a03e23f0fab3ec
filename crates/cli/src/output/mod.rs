//! What people and scripts see. The only place of the command line that prints.
//!
//! Standard output carries the result, standard error everything said on the
//! way. With `--json` standard output holds one document (or one line per item
//! of a stream) and nothing else, whatever happens.

mod progress;
mod style;
mod table;

use std::io::Write;

use helix_model::api::LogLine;
use serde::Serialize;

pub(crate) use progress::Transfer;
pub(crate) use style::Style;
pub(crate) use table::{Emphasis, Table, pairs};

use crate::failure::{Failure, Result};
use crate::io::{Environment, Terminals};

/// Of a terminal that does not say.
const ROWS_USUAL: usize = 24;

/// The two streams, and how to write to them.
pub(crate) struct Ui {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    result: Style,
    aside: Style,
    json: bool,
    verbose: bool,
    stdout_is_terminal: bool,
    /// How many lines the last frame had.
    frame_lines: usize,
    /// Set while something is under way and a person watches.
    spinner: progress::Spinner,
}

impl Ui {
    pub(crate) fn new(
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
        terminals: Terminals,
        environment: &Environment,
    ) -> Ui {
        Ui {
            stdout,
            stderr,
            result: Style::new(terminals.stdout, environment),
            aside: Style::new(terminals.stderr, environment),
            json: false,
            verbose: false,
            stdout_is_terminal: terminals.stdout,
            frame_lines: 0,
            spinner: progress::Spinner::new(terminals.stderr),
        }
    }

    /// Whether scripts read along.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn set_mode(&mut self, json: bool, verbose: bool) {
        self.json = json;
        self.verbose = verbose;
    }

    /// The result of the command, in the form that was asked for.
    pub(crate) fn result(
        &mut self,
        document: &impl Serialize,
        human: impl FnOnce(&Style) -> String,
    ) -> Result<()> {
        self.spinner.clear();
        let text = if self.json {
            serde_json::to_string_pretty(document).unwrap_or_default()
        } else {
            human(&self.result)
        };
        self.write(text.trim_end_matches('\n'))
    }

    /// Help, which is text in either form.
    pub(crate) fn help(&mut self, text: &str) -> Result<()> {
        self.write(text.trim_end_matches('\n'))
    }

    /// One item of a stream.
    pub(crate) fn item(
        &mut self,
        document: &impl Serialize,
        human: impl FnOnce(&Style) -> String,
    ) -> Result<()> {
        self.spinner.clear();
        let text = if self.json {
            serde_json::to_string(document).unwrap_or_default()
        } else {
            human(&self.result)
        };
        self.write(&text)
    }

    /// What replaces the one before on a terminal, in as many lines as there are; elsewhere
    /// it follows.
    pub(crate) fn frame(
        &mut self,
        document: &impl Serialize,
        human: impl FnOnce(&Style, usize) -> String,
    ) -> Result<()> {
        if self.json || !self.stdout_is_terminal {
            return self.item(document, |style| human(style, usize::MAX));
        }
        self.spinner.clear();
        let rows = terminal_size::terminal_size().map_or(ROWS_USUAL, |(_, rows)| rows.0.into());
        // The last line stays empty, so that nothing scrolls.
        let text = human(&self.result, rows.saturating_sub(1));
        let lines = text.trim_end_matches('\n');
        let back = match std::mem::replace(&mut self.frame_lines, lines.lines().count()) {
            0 => String::new(),
            up => format!("\u{1b}[{up}A"),
        };
        // Lines are cut at the edge, for a broken one would be two.
        self.write(&format!("{back}\r\u{1b}[J\u{1b}[?7l{lines}\u{1b}[?7h"))
    }

    /// Bytes of a remote program, as they are.
    pub(crate) fn remote(&mut self, bytes: &[u8], to_stdout: bool) -> Result<()> {
        let stream = if to_stdout { &mut self.stdout } else { &mut self.stderr };
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(|_| Failure::output_closed())
    }

    /// What is being done now. Replaced by the next on a terminal, a line each
    /// elsewhere.
    pub(crate) fn step(&mut self, text: &str) {
        if !self.spinner.set(text) {
            self.aside_line(text);
        }
    }

    /// Something that happened on the way and is worth keeping.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.spinner.print(text) {
            self.aside_line(text);
        }
    }

    /// What is about to be done, in as many lines as it takes.
    pub(crate) fn preview(&mut self, text: impl FnOnce(&Style) -> String) {
        for line in text(&self.aside).lines() {
            self.note(line);
        }
    }

    /// What a change has brought near a limit.
    pub(crate) fn warn(&mut self, warnings: &[String]) {
        for warning in warnings {
            let text = format!("{} {warning}", self.aside.yellow("warning:"));
            self.note(&text);
        }
    }

    /// A question to a person, who answers on the same line.
    pub(crate) fn question(&mut self, text: &str) {
        self.spinner.clear();
        let _ = write!(self.stderr, "{text}").and_then(|()| self.stderr.flush());
    }

    /// A transfer of bytes, drawn as a bar on a terminal.
    pub(crate) fn transfer(&mut self, text: &str) -> Transfer {
        self.spinner.clear();
        if !self.spinner.on_terminal() {
            self.aside_line(text);
        }
        Transfer::new(text, self.spinner.on_terminal())
    }

    /// Nothing is under way any more.
    pub(crate) fn quiet(&mut self) {
        self.spinner.clear();
    }

    /// How the command failed.
    pub(crate) fn failure(&mut self, failure: &Failure, streaming: bool) {
        self.spinner.clear();
        if failure.silent {
            return;
        }
        if !self.json {
            let text = render_failure(failure, &self.aside, self.verbose);
            self.aside_line(text.trim_end_matches('\n'));
            return;
        }
        let document = failure.document();
        let text = if streaming {
            serde_json::to_string(&document)
        } else {
            serde_json::to_string_pretty(&document)
        };
        // With standard output gone there is nowhere left to tell it.
        let _ = self.write(&text.unwrap_or_default());
    }

    fn write(&mut self, text: &str) -> Result<()> {
        writeln!(self.stdout, "{text}")
            .and_then(|()| self.stdout.flush())
            .map_err(|_| Failure::output_closed())
    }

    fn aside_line(&mut self, text: &str) {
        // Progress that nobody can read must not end the work.
        let _ = writeln!(self.stderr, "{text}").and_then(|()| self.stderr.flush());
    }
}

/// `error:`, the fields at fault, what the program said, and `hint:`.
fn render_failure(failure: &Failure, style: &Style, verbose: bool) -> String {
    let problem = &failure.problem;
    let code = style.dim(&format!("({})", failure.code()));
    let mut text = format!("{} {} {code}\n", style.red("error:"), problem.detail);
    for field in &problem.details {
        text.push_str(&format!("  {}: {}\n", style.bold(&field.field), field.message));
    }
    for line in &failure.logs {
        text.push_str(&format!("  {}\n", log_line(line, style)));
    }
    if verbose && !problem.request_id.is_empty() {
        text.push_str(&format!("  request {}\n", problem.request_id));
    }
    if !problem.hint.is_empty() {
        text.push_str(&format!("\n{} {}\n", style.cyan("hint:"), problem.hint));
    }
    text
}

/// A log line with its instance in front.
pub(crate) fn log_line(line: &LogLine, style: &Style) -> String {
    let mark = if line.stream == "stderr" { style.yellow("|") } else { style.dim("|") };
    let cut = if line.truncated { style.dim(" [cut]") } else { String::new() };
    let instance = style.cyan(&line.instance);
    let text = format!("{instance} {mark} {}{cut}", plain(&line.line));
    match line.dropped {
        0 => text,
        1 => format!("{instance} {} {}\n{text}", style.red("!"), style.dim("[1 line lost here]")),
        many => {
            let lost = style.dim(&format!("[{many} lines lost here]"));
            format!("{instance} {} {lost}\n{text}", style.red("!"))
        }
    }
}

/// Without control characters: a program's output must not drive the terminal
/// of whoever reads its log. Tabs and colours aside, nothing is lost.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.peek() == Some(&'[') => {
                characters.next();
                // A control sequence ends with a byte from @ to ~ (ECMA-48 §5.4).
                for inner in characters.by_ref() {
                    if ('@'..='~').contains(&inner) {
                        break;
                    }
                }
            }
            '\t' => plain.push('\t'),
            control if control.is_control() => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use helix_model::{Code, Problem};

    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_try() {
        let problem = Problem::new(Code::ManifestInvalid, "the manifest has 1 problem(s)")
            .field("processes.web", "line 3, column 1: needs a port");
        expect![[r#"
            error: the manifest has 1 problem(s) (manifest_invalid)
              processes.web: line 3, column 1: needs a port

            hint: fix the lines named and run `helix deploy` again
        "#]]
        .assert_eq(&render_failure(&problem.into(), &Style::PLAIN, false));
    }

    #[test]
    fn a_reason_is_shown_instead_of_the_general_code() {
        let failure = Failure::workload("oom_killed", "deploy d2 failed");
        assert_eq!(failure.code(), "oom_killed");
        assert_eq!(failure.exit_code, 1);
        let document = failure.document();
        assert_eq!(document["error"]["code"], "workload_failed");
        assert_eq!(document["error"]["reason"], "oom_killed");
        assert_eq!(document["error"]["exit_code"], 1);
    }

    #[test]
    fn a_log_cannot_drive_the_terminal() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\tok\u{7}\r"), "red\tok");
        assert_eq!(plain("\u{1b}]52;c;evil\u{7}"), "]52;c;evil");
    }
}
