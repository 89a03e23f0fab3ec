//! Colours and signs, or their absence.

use crate::io::Environment;

/// How text may be marked up on one stream. Colour is never the only signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
    unicode: bool,
}

impl Style {
    /// No colours, and signs that any terminal has.
    #[cfg(test)]
    pub(crate) const PLAIN: Style = Style { colour: false, unicode: false };

    /// What this stream can show: colours on a terminal unless `NO_COLOR` is set
    /// (no-color.org), signs beyond ASCII where the locale is UTF-8.
    pub(crate) fn new(terminal: bool, environment: &Environment) -> Style {
        let dumb = environment.get("TERM") == Some("dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| environment.get(name))
            .unwrap_or_default()
            .to_ascii_lowercase();
        Style {
            colour: terminal && !dumb && environment.get("NO_COLOR").is_none(),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(&self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(&self, text: &str) -> String {
        self.paint("36", text)
    }

    /// A check that passed.
    pub(crate) fn tick(&self) -> String {
        self.green(if self.unicode { "✓" } else { "ok" })
    }

    /// A check that failed.
    pub(crate) fn cross(&self) -> String {
        self.red(if self.unicode { "✗" } else { "x " })
    }

    /// A check with nothing to say either way.
    pub(crate) fn dash(&self) -> String {
        self.dim(if self.unicode { "–" } else { "- " })
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_that_wants_them() {
        let red = |terminal, variables: Environment| Style::new(terminal, &variables).red("x");
        assert_eq!(red(true, [].into()), "\u{1b}[1;31mx\u{1b}[0m");
        assert_eq!(red(false, [].into()), "x");
        assert_eq!(red(true, [("NO_COLOR", "1")].into()), "x");
        assert_eq!(red(true, [("TERM", "dumb")].into()), "x");
    }

    #[test]
    fn signs_follow_the_locale() {
        let tick = |locale| Style::new(false, &[("LANG", locale)].into()).tick();
        assert_eq!(tick("en_US.UTF-8"), "✓");
        assert_eq!(tick("C"), "ok");
    }
}
