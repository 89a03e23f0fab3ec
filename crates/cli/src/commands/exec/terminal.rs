//! This terminal: its size, and raw mode for as long as a remote program has it.

use std::os::fd::AsFd;

use nix::sys::termios::{self, SetArg, Termios};

/// Columns and rows, when standard output is a terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    let (width, height) = terminal_size::terminal_size()?;
    Some((width.0, height.0))
}

/// Raw mode: every key goes to the remote program. Dropping it restores what
/// was before.
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// `None` when standard input is no terminal after all.
    pub(super) fn enter() -> Option<Raw> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw).ok()?;
        Some(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let stdin = std::io::stdin();
        // With the terminal gone there is nothing to restore.
        let _ = termios::tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
