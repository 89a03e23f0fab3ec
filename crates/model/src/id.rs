//! Identity: prefixed ULIDs such as `app_01J8Z3Q4V5W6X7Y8Z9A0B1C2D3`.
//!
//! [`Id`] is typed by its noun, [`AnyId`] carries its kind at run time. One
//! parser serves both. Knows no randomness: fresh ids are made from entropy the
//! caller passes in.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::{ULID_LEN, Ulid};

use crate::{Kind, Noun, Timestamp};

/// The id of a resource of noun `N`.
pub struct Id<N>(Ulid, PhantomData<fn() -> N>);

/// An id whose kind is known only at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyId {
    kind: Kind,
    ulid: Ulid,
}

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No known prefix followed by `_` and 26 characters.
    #[error("`{0}` is not an id: ids look like `app_` and 26 letters and digits")]
    Malformed(String),
    /// A well-formed id of another kind.
    #[error("`{given}` is the id of {found}, where {expected} is needed")]
    WrongKind {
        /// The text as given.
        given: String,
        /// The kind it names.
        found: Kind,
        /// The kind that was asked for.
        expected: Kind,
    },
}

impl<N: Noun> Id<N> {
    /// A fresh id from a moment and 80 bits of entropy (the low ones).
    pub fn new(at: Timestamp, entropy: u128) -> Id<N> {
        Id(Ulid::from_parts(u64::try_from(at.0).unwrap_or(0), entropy), PhantomData)
    }

    /// The id of this noun with such a number; whoever kept the number knows that there is
    /// one.
    pub(crate) fn of(ulid: Ulid) -> Id<N> {
        Id(ulid, PhantomData)
    }

    /// The number alone.
    pub(crate) fn ulid(self) -> Ulid {
        self.0
    }

    /// The same id without its type.
    pub fn any(self) -> AnyId {
        AnyId { kind: N::KIND, ulid: self.0 }
    }
}

impl AnyId {
    /// What kind of resource this names.
    pub fn kind(self) -> Kind {
        self.kind
    }

    fn text(self) -> String {
        let prefix = self.kind.prefix();
        let mut text = String::with_capacity(prefix.len() + 1 + ULID_LEN);
        text.push_str(prefix);
        text.push('_');
        text.push_str(self.ulid.array_to_str(&mut [0; ULID_LEN]));
        text
    }

    /// The same id with its type, when the kind fits.
    pub fn typed<N: Noun>(self) -> Option<Id<N>> {
        (self.kind == N::KIND).then_some(Id(self.ulid, PhantomData))
    }
}

impl fmt::Display for AnyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        f.write_str("_")?;
        f.write_str(self.ulid.array_to_str(&mut [0; ULID_LEN]))
    }
}

impl FromStr for AnyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let malformed = || IdError::Malformed(text.chars().take(64).collect());
        let (prefix, rest) = text.split_once('_').ok_or_else(malformed)?;
        let kind =
            Kind::ALL.into_iter().find(|kind| kind.prefix() == prefix).ok_or_else(malformed)?;
        let ulid = Ulid::from_string(rest).map_err(|_| malformed())?;
        // Crockford base 32 reads several spellings of one value; only the
        // canonical one is an id, so that ids compare as text too.
        if ulid.array_to_str(&mut [0; ULID_LEN]) == rest {
            Ok(AnyId { kind, ulid })
        } else {
            Err(malformed())
        }
    }
}

impl<N: Noun> FromStr for Id<N> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let any: AnyId = text.parse()?;
        any.typed().ok_or_else(|| IdError::WrongKind {
            given: text.to_owned(),
            found: any.kind,
            expected: N::KIND,
        })
    }
}

impl<N: Noun> fmt::Display for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.any().fmt(f)
    }
}

impl<N: Noun> fmt::Debug for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Written out because deriving would demand the same of `N`.
impl<N> Clone for Id<N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Id<N> {}
impl<N> PartialEq for Id<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<N> Eq for Id<N> {}
impl<N> PartialOrd for Id<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<N> Ord for Id<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
impl<N> Hash for Id<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<N: Noun> Serialize for Id<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.any().serialize(serializer)
    }
}

impl<'de, N: Noun> Deserialize<'de> for Id<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

// In one piece: a serializer looks at each piece for what it has to escape.
impl Serialize for AnyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for AnyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{App, Env};

    proptest! {
        #[test]
        fn every_id_round_trips(at in 0i64..1 << 47, entropy: u128) {
            let id: Id<App> = Id::new(Timestamp(at), entropy);
            prop_assert_eq!(id.to_string().parse::<Id<App>>().unwrap(), id);
            prop_assert_eq!(id.to_string().parse::<AnyId>().unwrap(), id.any());
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,40}") {
            if let Ok(id) = text.parse::<AnyId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_id_of_another_kind_is_named_as_such() {
        let id: Id<App> = Id::new(Timestamp(1), 7);
        let error = id.to_string().parse::<Id<Env>>().unwrap_err();
        assert!(error.to_string().contains("is the id of app, where env is needed"));
    }
}
