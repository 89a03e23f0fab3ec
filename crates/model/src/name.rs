//! Names: labels that people choose, unique inside their parent.
//!
//! Owns the one rule for them. A name is never identity: authorization and
//! events use ids.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Names become DNS labels and file names; 32 leaves room for a suffix within
/// the 63 characters a DNS label may have.
pub const NAME_LENGTH_MAX: usize = 32;

/// Names that are the same but for their number, at most: more than there can be.
const NUMBER_MAX: u32 = 100_000;

/// `[a-z][a-z0-9-]{0,31}`.
///
/// Kept in place and not behind a pointer: tables are keyed by names and share
/// their structure, so that every change copies some dozens of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    length: u8,
    /// Zero beyond `length`.
    bytes: [u8; NAME_LENGTH_MAX],
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid name: use 1 to 32 of a-z, 0-9 and `-`, starting with a letter")]
pub struct NameError {
    /// The text as given, cut to a readable length.
    pub given: String,
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ever made from a text of ASCII letters, so there is one.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The nearest name to a text that is not used yet, numbered if need be; made of
    /// `fallback` when nothing of the text can be in a name.
    pub fn unused(text: &str, fallback: &str, is_unused: impl Fn(&Name) -> bool) -> Option<Name> {
        let derived = Name::derive(text).or_else(|| fallback.parse().ok())?;
        if is_unused(&derived) {
            return Some(derived);
        }
        let numbered = |number: u32| {
            let suffix = format!("-{number}");
            let kept = derived.as_str().get(..NAME_LENGTH_MAX - suffix.len());
            let kept = kept.unwrap_or(derived.as_str()).trim_end_matches('-');
            format!("{kept}{suffix}").parse().ok()
        };
        (2..=NUMBER_MAX).filter_map(numbered).find(is_unused)
    }

    /// The nearest valid name to any text, for deriving one from a folder.
    /// `None` when nothing usable is left.
    pub fn derive(text: &str) -> Option<Name> {
        let mut derived = String::new();
        for character in text.chars() {
            let character = character.to_ascii_lowercase();
            match character {
                'a'..='z' => derived.push(character),
                '0'..='9' if !derived.is_empty() => derived.push(character),
                _ if !derived.is_empty() && !derived.ends_with('-') => derived.push('-'),
                _ => {}
            }
        }
        derived.truncate(NAME_LENGTH_MAX);
        derived.trim_end_matches('-').parse().ok()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        let starts = bytes.next().is_some_and(|first| first.is_ascii_lowercase());
        let continues =
            bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if starts && continues && text.len() <= NAME_LENGTH_MAX {
            let mut name = Name { length: text.len() as u8, bytes: [0; NAME_LENGTH_MAX] };
            name.bytes[..text.len()].copy_from_slice(text.as_bytes());
            Ok(name)
        } else {
            Err(NameError { given: text.chars().take(64).collect() })
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Name").field(&self.as_str()).finish()
    }
}

// What is beyond the length is zero and no letter is, so this is the order of
// the texts.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_labels_and_refuses_the_rest() {
        for good in ["a", "web", "web-1", "a23456789012345678901234567890ab"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "A", "a_b", "ä", "a23456789012345678901234567890abc", "a/b"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_is_used_gets_a_number() {
        let taken = ["a-b", "a-b-2", "a23456789012345678901234567890ab"];
        let unused = |text| {
            let is_unused = |name: &Name| !taken.contains(&name.as_str());
            Name::unused(text, "host", is_unused).unwrap().to_string()
        };
        assert_eq!(
            (unused("a.c"), unused("a.b"), unused("1.2")),
            ("a-c".into(), "a-b-3".into(), "host".into())
        );
        assert_eq!(unused("a23456789012345678901234567890ab"), "a23456789012345678901234567890-2");
    }

    #[test]
    fn derives_a_name_from_a_folder() {
        let derive = |text| Name::derive(text).map(|name| name.to_string());
        assert_eq!(derive("My App (2)").as_deref(), Some("my-app-2"));
        assert_eq!(derive("2024_site").as_deref(), Some("site"));
        assert_eq!(derive("..."), None);
    }
}
