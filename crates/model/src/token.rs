//! Tokens: what a program shows to be let in.
//!
//! A personal token acts as its user, a service token for its org. Only a hash
//! is kept: 256 random bits cannot be found from it, so it may be in an event.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::{Apply, Subject};
use crate::state::{Change, State};
use crate::{AnyId, Id, Kind, Name, Noun, Org, Permissions, Timestamp, User};

/// How long a token lives unless told otherwise.
pub const LIFE_DAYS_DEFAULT: u32 = 90;

/// The longest a token may live: whoever needs it longer makes another one, and
/// finds out who still uses it.
pub const LIFE_DAYS_MAX: u32 = 366;

/// The use of a token is noted at most this often, so that reading costs no
/// writing.
pub const USE_NOTED_EVERY_MS: i64 = 10 * 60 * 1000;

/// A way in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub owner: Owner,
    /// Only these of what its owner may; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Permissions>,
    /// A personal token may be for one org only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Id<Org>>,
    pub expires_at: Timestamp,
}

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Personal: acts as the user.
    User(Id<User>),
    /// Service: acts for the org, with its scopes.
    Org(Id<Org>),
}

impl Owner {
    /// The owner, as parent of its tokens.
    pub fn any(self) -> AnyId {
        match self {
            Owner::User(id) => id.any(),
            Owner::Org(id) => id.any(),
        }
    }
}

/// What is known of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Within [`USE_NOTED_EVERY_MS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl Noun for Token {
    const KIND: Kind = Kind::Token;
    type Status = Status;
}

/// The sha256 of a token's text, as lower-case hex wherever it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The text is not a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 lower-case hexadecimal digits")]
pub struct HashError;

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(HashError);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digits = digit(*high).zip(digit(*low)).ok_or(HashError)?;
            *byte = digits.0 << 4 | digits.1;
        }
        Ok(Hash(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What the state knows of a hash that was ever given out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    pub id: Id<Token>,
    pub owner: Owner,
    pub name: Name,
    /// Its use after this is known for what it is, until it would have expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    pub expires_at: Timestamp,
}

/// Command: make a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub name: Name,
    #[serde(flatten)]
    pub spec: Token,
    pub hash: Hash,
}

/// Event: a token was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Token>,
    pub name: Name,
    #[serde(flatten)]
    pub spec: Token,
    pub hash: Hash,
}

/// Which token an event is about; they come and go, so it says whose it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Which {
    pub id: Id<Token>,
    pub owner: Owner,
    pub name: Name,
    pub hash: Hash,
}

impl Which {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::of(self.id.any(), self.owner.any(), &self.name)
    }
}

/// Event: a token lets nobody in any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revoked {
    #[serde(flatten)]
    pub of: Which,
}

/// Event: a token was used, for the first time in a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Used {
    #[serde(flatten)]
    pub of: Which,
}

/// Event: nothing needs to be known of a revoked token any more, it would have
/// expired by now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forgotten {
    #[serde(flatten)]
    pub of: Which,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let (owner, expires_at) = (self.spec.owner, self.spec.expires_at);
        let name = self.name.clone();
        let issued = Issued { id: self.id, owner, name: name.clone(), revoked: false, expires_at };
        state.issued.insert(self.hash, issued);
        state.tokens.insert(change.create(self.id, name, Some(owner.any()), self.spec.clone()));
    }
}

impl Apply for Revoked {
    fn apply(&self, state: &mut State, _change: Change) {
        if let Some(issued) = state.issued.get_mut(&self.of.hash) {
            issued.revoked = true;
        }
        state.tokens.remove(self.of.id);
    }
}

impl Apply for Used {
    fn apply(&self, state: &mut State, change: Change) {
        // Not a new version: nothing that anyone decided has changed.
        state.tokens.update(self.of.id, |token| token.status.last_used_at = Some(change.at));
    }
}

impl Apply for Forgotten {
    fn apply(&self, state: &mut State, _change: Change) {
        state.issued.remove(&self.of.hash);
        state.tokens.remove(self.of.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = Hash([0xa7; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "a7", &"A7".repeat(32), &"a7".repeat(33), &"a7 ".repeat(32)] {
            assert_eq!(bad.parse::<Hash>(), Err(HashError), "{bad}");
        }
    }
}
