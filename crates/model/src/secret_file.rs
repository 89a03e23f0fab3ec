//! The secrets file: what `helix secrets import` reads and what a program finds
//! at `/run/secrets/platform.env`.
//!
//! ```text
//! # HELIX_SECRETS_V1
//! API_KEY=plain text, to the end of the line
//! TLS_KEY=base64:LS0tLS1CRUdJTi…
//! ```
//! Start from [`parse`] and [`Secrets::canonical`], which undo each other: of one
//! set of values there is exactly one canonical file. No error here repeats
//! anything that may be a value, not even of a line that makes no sense.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::{Code, Problem};

/// The first line that is not empty.
pub const HEADER: &str = "# HELIX_SECRETS_V1";

/// What a value that is not plain begins with.
const ENCODED: &str = "base64:";

/// Longest file, as given and in its canonical form: it is held in memory by
/// every process it passes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// Most keys of a file.
pub const KEYS_MAX: usize = 256;

/// Longest key.
pub const KEY_BYTES_MAX: usize = 128;

/// Longest value that stands in the file as it is; a line should stay one.
pub const PLAIN_BYTES_MAX: usize = 8192;

/// Longest value at all: a certificate chain, not an archive.
pub const VALUE_BYTES_MAX: usize = 65_536;

/// The name of a secret: `[A-Z_][A-Z0-9_]*`, as variables are named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no key. It is not repeated: what stands where a key should be may
/// be a piece of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is made of A-Z, 0-9 and _, begins with no digit and has at most 128 characters")]
pub struct KeyError;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let letter = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        let starts = text.bytes().next().is_some_and(letter);
        let goes_on = text.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
        if starts && goes_on && text.len() <= KEY_BYTES_MAX {
            return Ok(Key(text.to_owned()));
        }
        Err(KeyError)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What is secret: shown by nothing, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// A value of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Value {
        Value(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves. Keep them as briefly as their use allows.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The text it is written as; `None` where it has to be encoded. Text that
    /// looks encoded is, or it would be read back as something else.
    fn plain(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.0).ok()?;
        let is_line = !text.contains(['\n', '\r', '\0']);
        (is_line && text.len() <= PLAIN_BYTES_MAX && !text.starts_with(ENCODED)).then_some(text)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(hidden)")
    }
}

/// Values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<Key, Value>);

impl Secrets {
    /// Sets one, in place of what was there.
    pub fn set(&mut self, key: Key, value: Value) {
        self.0.insert(key, value);
    }

    /// Takes one out; `false` when there was none.
    pub fn unset(&mut self, key: &Key) -> bool {
        self.0.remove(key).is_some()
    }

    /// Sets all that another has.
    pub fn extend(&mut self, other: Secrets) {
        self.0.extend(other.0);
    }

    /// Each with its key, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long each value is, which is no secret.
    pub fn sizes(&self) -> BTreeMap<Key, u64> {
        self.0.iter().map(|(key, value)| (key.clone(), value.0.len() as u64)).collect()
    }

    /// The one file of these values: sorted, without comments, plain where that
    /// reads back as the same bytes.
    ///
    /// # Errors
    /// When a limit is exceeded, naming the key at fault.
    pub fn canonical(&self) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
        if self.0.len() > KEYS_MAX {
            return Err(SecretFileError::TooManyKeys { keys: self.0.len() });
        }
        // In one piece from the start: a vector that grows leaves its contents
        // behind in memory.
        let mut file = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        file.extend_from_slice(HEADER.as_bytes());
        file.push(b'\n');
        for (key, value) in &self.0 {
            if value.0.len() > VALUE_BYTES_MAX {
                let (key, bytes) = (key.clone(), value.0.len());
                return Err(SecretFileError::ValueTooLong { key, bytes });
            }
            let encoded;
            let (mark, text) = match value.plain() {
                Some(text) => ("", text),
                None => {
                    encoded = Zeroizing::new(BASE64_STANDARD.encode(&*value.0));
                    (ENCODED, encoded.as_str())
                }
            };
            let length = key.0.len() + "=".len() + mark.len() + text.len() + "\n".len();
            if file.len() + length > FILE_BYTES_MAX {
                return Err(SecretFileError::FileTooLongAt { key: key.clone() });
            }
            for part in [&key.0, "=", mark, text, "\n"] {
                file.extend_from_slice(part.as_bytes());
            }
        }
        Ok(file)
    }

    /// The canonical file with each value masked: how long it is, nothing else.
    pub fn masked(&self) -> String {
        masked(&self.sizes())
    }
}

/// What a canonical file looks like, of values of these sizes.
pub fn masked(sizes: &BTreeMap<Key, u64>) -> String {
    let line = |(key, bytes): (&Key, &u64)| format!("{key}=<{bytes} bytes>\n");
    format!("{HEADER}\n{}", sizes.iter().map(line).collect::<String>())
}

/// Reads a file.
///
/// # Errors
/// Names the line, and the key where there is one.
pub fn parse(bytes: &[u8]) -> Result<Secrets, SecretFileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(SecretFileError::FileTooLong { bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        SecretFileError::NotUtf8 { line: 1 + before.iter().filter(|it| **it == b'\n').count() }
    })?;
    let mut secrets = Secrets::default();
    let mut header = false;
    for (index, raw) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let line = match raw.strip_suffix('\n') {
            Some(ended) => ended.strip_suffix('\r').unwrap_or(ended),
            None => raw,
        };
        if line.contains('\r') {
            return Err(SecretFileError::LoneCarriageReturn { line: number });
        }
        if line.is_empty() {
            continue;
        }
        if !header {
            header = line == HEADER;
            if header {
                continue;
            }
            return Err(SecretFileError::HeaderMissing { line: number });
        }
        if !line.starts_with('#') {
            read_line(&mut secrets, number, line)?;
        }
    }
    if header { Ok(secrets) } else { Err(SecretFileError::HeaderMissing { line: 1 }) }
}

fn read_line(secrets: &mut Secrets, number: usize, line: &str) -> Result<(), SecretFileError> {
    let (key, text) = line.split_once('=').ok_or(SecretFileError::NoPair { line: number })?;
    let key: Key = key.parse().map_err(|_| SecretFileError::NoKey { line: number })?;
    if secrets.0.contains_key(&key) {
        return Err(SecretFileError::Duplicate { line: number, key });
    }
    if secrets.0.len() == KEYS_MAX {
        return Err(SecretFileError::TooManyKeys { keys: KEYS_MAX + 1 });
    }
    let value = match text.strip_prefix(ENCODED) {
        Some(encoded) => match BASE64_STANDARD.decode(encoded) {
            Ok(bytes) => Value::new(bytes),
            Err(_) => return Err(SecretFileError::NotBase64 { line: number, key }),
        },
        None if text.len() > PLAIN_BYTES_MAX => {
            return Err(SecretFileError::PlainTooLong { key, bytes: text.len() });
        }
        None if text.contains('\0') => return Err(SecretFileError::Nul { line: number, key }),
        None => Value::new(text),
    };
    if value.0.len() > VALUE_BYTES_MAX {
        return Err(SecretFileError::ValueTooLong { key, bytes: value.0.len() });
    }
    secrets.0.insert(key, value);
    Ok(())
}

/// What is wrong with a file, or with values that are to become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFileError {
    #[error("the file has {bytes} bytes, more than {FILE_BYTES_MAX}")]
    FileTooLong { bytes: usize },
    #[error("with `{key}` the file would be longer than {FILE_BYTES_MAX} bytes")]
    FileTooLongAt { key: Key },
    #[error("line {line} is not UTF-8; give such a value as `base64:`")]
    NotUtf8 { line: usize },
    #[error("line {line} has a carriage return in it; give such a value as `base64:`")]
    LoneCarriageReturn { line: usize },
    #[error("line {line} is not `{HEADER}`, which a file of secrets begins with")]
    HeaderMissing { line: usize },
    #[error("line {line} has no `=`; a value of several lines is given as `base64:`")]
    NoPair { line: usize },
    #[error("line {line} does not begin with a key: {KeyError}")]
    NoKey { line: usize },
    #[error("line {line}: `{key}` is set twice")]
    Duplicate { line: usize, key: Key },
    #[error("there are {keys} keys, more than {KEYS_MAX}")]
    TooManyKeys { keys: usize },
    #[error(
        "`{key}` has {bytes} bytes of plain text, more than {PLAIN_BYTES_MAX}; give it as `base64:`"
    )]
    PlainTooLong { key: Key, bytes: usize },
    #[error("`{key}` has {bytes} bytes, more than {VALUE_BYTES_MAX}")]
    ValueTooLong { key: Key, bytes: usize },
    #[error(
        "line {line}: what follows `base64:` in `{key}` is not base64 (standard alphabet, padded)"
    )]
    NotBase64 { line: usize, key: Key },
    #[error("line {line}: `{key}` has a NUL in it; give it as `base64:`")]
    Nul { line: usize, key: Key },
}

impl SecretFileError {
    /// The key at fault, where one is known.
    pub fn key(&self) -> Option<&Key> {
        match self {
            SecretFileError::FileTooLongAt { key }
            | SecretFileError::Duplicate { key, .. }
            | SecretFileError::PlainTooLong { key, .. }
            | SecretFileError::ValueTooLong { key, .. }
            | SecretFileError::NotBase64 { key, .. }
            | SecretFileError::Nul { key, .. } => Some(key),
            _ => None,
        }
    }
}

impl From<SecretFileError> for Problem {
    fn from(error: SecretFileError) -> Problem {
        let problem = Problem::new(Code::InvalidArgument, error.to_string())
            .hint("docs/secrets.md describes the file; nothing was changed");
        match error.key() {
            Some(key) => problem.field(format!("values.{key}"), "cannot be used"),
            None => problem.field("file", "cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests;
