//! What is under way, drawn on a terminal and only there.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// One line that turns while something takes its time.
pub(super) struct Spinner {
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Spinner {
    pub(super) fn new(terminal: bool) -> Spinner {
        Spinner { terminal, bar: None }
    }

    pub(super) fn on_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows the text; `false` when there is no terminal to show it on.
    pub(super) fn set(&mut self, text: &str) -> bool {
        if !self.terminal {
            return false;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(text.to_owned());
        true
    }

    /// Prints above the turning line; `false` when there is none.
    pub(super) fn print(&self, text: &str) -> bool {
        match &self.bar {
            Some(bar) => {
                bar.println(text);
                true
            }
            None => false,
        }
    }

    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar for bytes on their way.
pub(crate) struct Transfer {
    bar: ProgressBar,
}

impl Transfer {
    pub(super) fn new(text: &str, terminal: bool) -> Transfer {
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // A template that does not parse would leave the default bar.
        if let Ok(style) = ProgressStyle::with_template(
            "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {eta}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(text.to_owned());
        Transfer { bar }
    }
}

impl helix_image::Progress for Transfer {
    fn bytes(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
