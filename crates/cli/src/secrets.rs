//! What must not be seen: passwords, codes and secrets of apps, typed without being
//! shown or read from standard input or a file. Never from arguments, which every
//! user of the machine can read.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

use helix_model::{Code, Problem};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};
use crate::session::Session;

/// Longest line that is read: what a terminal passes on, and more than any password.
const LINE_BYTES_MAX: u64 = 4096;

/// Longest file that may hold a token: they are far shorter.
const TOKEN_FILE_BYTES_MAX: usize = 4096;

/// The token in a file.
pub(crate) fn token_in(path: &Path) -> Result<String> {
    let hint = "put the token on its only line, readable by who runs this";
    let bytes = read_file(path, TOKEN_FILE_BYTES_MAX).map_err(|failure| {
        let detail = format!("there is no token: {}", failure.problem.detail);
        Failure::new(Code::PreconditionFailed, detail).hint(hint)
    })?;
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok("") | Err(_) => Err(Failure::usage(format!("{} holds no token", path.display()), hint)),
        Ok(token) => Ok(token.to_owned()),
    }
}

/// Where secrets are read from during one command.
pub(crate) struct Input {
    input: BufReader<Box<dyn Read + Send>>,
    is_terminal: bool,
}

impl Input {
    /// Takes the standard input of the session.
    pub(crate) fn of(session: &mut Session<'_>) -> Input {
        let input = session.stdin.take().unwrap_or_else(|| Box::new(std::io::empty()));
        Input { input: BufReader::new(input), is_terminal: session.terminals.stdin }
    }

    /// Whether a person types.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// All that comes, at most so much.
    pub(crate) fn read_all(&mut self, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>> {
        read_up_to(&mut self.input, bytes_max, "standard input")
    }

    /// The next line. A person is asked for `what` and does not see what they
    /// type.
    pub(crate) fn read(&mut self, session: &mut Session<'_>, what: &str) -> Result<String> {
        let _hidden = if self.is_terminal {
            session.ui.remote(format!("{what}: ").as_bytes(), false)?;
            Hidden::enter()
        } else {
            None
        };
        let mut line = String::new();
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_line(&mut line);
        if self.is_terminal {
            session.ui.remote(b"\n", false)?;
        }
        read.map_err(|error| unreadable(what, &error.to_string()))?;
        let line = line.trim_end_matches(['\n', '\r']).to_owned();
        if line.is_empty() {
            return Err(unreadable(what, "nothing was given"));
        }
        Ok(line)
    }

    /// A new password, asked for twice of a person.
    pub(crate) fn read_new_password(&mut self, session: &mut Session<'_>) -> Result<String> {
        let password = self.read(session, "new password")?;
        if self.is_terminal && self.read(session, "once more")? != password {
            return Err(Failure::usage("the two passwords are not the same", "try again"));
        }
        Ok(password)
    }
}

/// All of a file, at most so much.
pub(crate) fn read_file(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>> {
    let shown = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| {
        Failure::usage(format!("cannot read {shown}: {error}"), "name a file that can be read")
    })?;
    read_up_to(file, bytes_max, &shown)
}

fn read_up_to(from: impl Read, bytes_max: usize, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    // In one piece: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    let read = from.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::usage(format!("cannot read {what}: {error}"), "pipe the value in")
    })?;
    if bytes.len() > bytes_max {
        let detail = format!("{what} has more than {bytes_max} bytes");
        return Err(Failure::usage(detail, "docs/secrets.md has the limits"));
    }
    Ok(bytes)
}

fn unreadable(what: &str, why: &str) -> Failure {
    let detail = format!("no {what} can be read from standard input: {why}");
    Problem::new(Code::InvalidArgument, detail)
        .hint("type it at a terminal, or pipe it in as a line of its own")
        .into()
}

/// Typing that is not shown. Dropping it restores what was before.
struct Hidden {
    before: Termios,
}

impl Hidden {
    /// `None` when standard input is no terminal after all.
    fn enter() -> Option<Hidden> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).ok()?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &hidden).ok()?;
        Some(Hidden { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let stdin = std::io::stdin();
        // With the terminal gone there is nothing to restore.
        let _ = termios::tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &self.before);
    }
}
