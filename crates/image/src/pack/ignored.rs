//! Which files of a folder stay out of an image.
//!
//! `.git`, `helix.toml` and `.helixignore` always do, and whatever
//! `.helixignore` lists: one pattern a line, `#` for comments. `*` stands for
//! anything but a slash. A pattern without a slash matches a name at any depth,
//! one with a slash a path from the folder; a final slash means directories
//! only. No negation: a list that can only take away is read at a glance.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::PackError;
use crate::error::ImageError;
use crate::limits::IGNORE_BYTES_MAX;

const ALWAYS: [&str; 3] = [".git", "helix.toml", ".helixignore"];

/// The patterns of one folder.
pub(super) struct Ignored {
    patterns: Vec<Pattern>,
}

struct Pattern {
    text: String,
    directories_only: bool,
    from_root: bool,
}

impl Ignored {
    /// Reads the folder's `.helixignore`, if it has one.
    pub(super) fn of(folder: &Path) -> Result<Self, PackError> {
        let path = folder.join(".helixignore");
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(IGNORE_BYTES_MAX + 1)
                    .read_to_string(&mut text)
                    .map_err(PackError::io("read", &path))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(PackError::io("open", &path)(error)),
        }
        if text.len() as u64 > IGNORE_BYTES_MAX {
            return Err(PackError::Image(ImageError::TooLarge {
                what: format!("{} is too long", path.display()),
                limit: format!("{IGNORE_BYTES_MAX} bytes"),
            }));
        }
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { patterns: patterns.map(Pattern::parse).collect() }
    }

    /// Whether the file or directory at this path below the folder stays out.
    pub(super) fn skips(&self, path: &str, is_directory: bool) -> bool {
        ALWAYS.contains(&path) || self.patterns.iter().any(|p| p.matches(path, is_directory))
    }
}

impl Pattern {
    fn parse(line: &str) -> Self {
        let text = line.trim_end_matches('/');
        Self {
            directories_only: line.ends_with('/'),
            from_root: text.contains('/'),
            text: text.trim_start_matches('/').to_owned(),
        }
    }

    fn matches(&self, path: &str, is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        let name = if self.from_root { path } else { path.rsplit('/').next().unwrap_or(path) };
        glob(self.text.as_bytes(), name.as_bytes())
    }
}

/// Matches with `*` for any run without a slash. On a mismatch only the last
/// star is tried again, so the time is at most pattern times name.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else if let Some((after_star, taken)) = retry.filter(|&(_, taken)| name[taken] != b'/') {
            retry = Some((after_star, taken + 1));
            p = after_star;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_away_what_they_say() {
        let ignored = Ignored::parse("# notes\n*.log\ntarget/\n/docs/*.md\nsecret.env\n");
        for (path, directory, skipped) in [
            (".git", true, true),
            ("helix.toml", false, true),
            ("sub/helix.toml", false, false),
            ("a.log", false, true),
            ("deep/er/a.log", false, true),
            ("a.log.txt", false, false),
            ("target", true, true),
            ("target", false, false),
            ("docs/a.md", false, true),
            ("docs/sub/a.md", false, false),
            ("other/docs/a.md", false, false),
            ("x/secret.env", false, true),
        ] {
            assert_eq!(ignored.skips(path, directory), skipped, "{path}");
        }
    }

    #[test]
    fn stars_backtrack() {
        assert!(glob(b"*a*b", b"xaxxaab"));
        assert!(!glob(b"*a*b", b"xaxxaa"));
        assert!(glob(b"*", b""));
        assert!(!glob(b"a*", b"a/b"));
    }
}
