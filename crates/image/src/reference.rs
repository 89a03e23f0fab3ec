//! Names of images: `nginx`, `localhost:5000/team/app:1`, `host/x@sha256:…`.
//!
//! The grammar is the distribution spec's (`name`, `tag`, `digest`) with
//! Docker's habits for what is left out: no host means Docker Hub, one
//! component there means `library/`, no tag means `latest`. Written by hand
//! because the `oci-spec` parser takes letters of any script in a tag and no
//! IPv6 host (`[::1]:5000/app`), which this product uses first.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::digest::Digest;

const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// Where an image is: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// The host is not a name, IPv4 or `[IPv6]` with an optional port.
    #[error("`{0}` is not a registry host")]
    Host(String),
    /// The repository breaks the grammar of the distribution spec.
    #[error(
        "`{0}` is not a repository name: lower-case letters, digits and single `.` `_` `-` between \
         them, parts joined by `/`, 255 bytes at most"
    )]
    Repository(String),
    /// The tag breaks the grammar of the distribution spec.
    #[error("`{0}` is not a tag: letters, digits, `_` `.` `-`, 128 bytes at most")]
    Tag(String),
    /// What follows `@` is no digest.
    #[error("the digest is malformed")]
    Digest(#[source] crate::digest::ParseDigestError),
}

impl Reference {
    /// Builds a reference from parts, checking each.
    pub fn new(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Self, ParseReferenceError> {
        if !is_host(registry) {
            return Err(ParseReferenceError::Host(excerpt(registry)));
        }
        if !is_repository(repository) {
            return Err(ParseReferenceError::Repository(excerpt(repository)));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ParseReferenceError::Tag(excerpt(tag)));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// Host and optional port, as written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Host and optional port to connect to; differs for Docker Hub only.
    pub fn registry_address(&self) -> &str {
        if self.registry == HUB { HUB_API } else { &self.registry }
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given (or `latest` when nothing was).
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same image, pinned.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// What the registry is asked for: the digest when there is one.
    pub(crate) fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Whether the registry is on this machine's loopback, where plain HTTP
    /// leaks nothing.
    pub fn is_loopback(&self) -> bool {
        let host = host_part(&self.registry);
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let (text, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(ParseReferenceError::Digest)?))
            }
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it, a port.
        let last_part = text.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match text[last_part..].split_once(':') {
            Some((part, tag)) => (&text[..last_part + part.len()], Some(tag)),
            None => (text, None),
        };
        match name.split_once('/') {
            Some((host, rest)) if looks_like_host(host) => {
                let host = if host == "index.docker.io" { HUB } else { host };
                Self::new(host, &in_library(host, rest), tag, digest)
            }
            _ => Self::new(HUB, &in_library(HUB, name), tag, digest),
        }
    }
}

fn in_library(host: &str, name: &str) -> String {
    if host == HUB && !name.contains('/') { format!("library/{name}") } else { name.to_owned() }
}

fn looks_like_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost"
}

fn host_part(registry: &str) -> &str {
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    registry.split(':').next().unwrap_or(registry)
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_ok = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    port_ok && host.len() <= 253 && host.split('.').all(is_host_label)
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` joined by `/` (distribution spec,
/// "Pulling manifests").
pub(crate) fn is_repository(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.split('/').all(is_repository_part)
}

fn is_repository_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !word(first) || !word(last) || !bytes.iter().all(|&b| word(b) || b"._-".contains(&b)) {
        return false;
    }
    part.split(|c: char| c.is_ascii_alphanumeric())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= TAG_BYTES_MAX
        && bytes.first().is_some_and(|&byte| word(byte))
        && bytes.iter().all(|&byte| word(byte) || byte == b'.' || byte == b'-')
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| error.to_string(), |r| r.to_string())
    }

    #[test]
    fn fills_in_what_people_leave_out() {
        assert_eq!(parse("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(parse("nginx:1.27"), "docker.io/library/nginx:1.27");
        assert_eq!(parse("team/app"), "docker.io/team/app:latest");
        assert_eq!(parse("index.docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(parse("localhost:5000/x:tag"), "localhost:5000/x:tag");
        assert_eq!(parse("localhost/x"), "localhost/x:latest");
        assert_eq!(parse("[::1]:5000/a/b"), "[::1]:5000/a/b:latest");
        let digest = Digest::of(b"x");
        assert_eq!(parse(&format!("ghcr.io/x@{digest}")), format!("ghcr.io/x@{digest}"));
        assert_eq!(parse(&format!("ghcr.io/x:1@{digest}")), format!("ghcr.io/x:1@{digest}"));
    }

    #[test]
    fn refuses_what_no_registry_would_take() {
        for text in [
            "",
            ":tag",
            "UPPER",
            "a//b",
            "a/../b",
            "-x",
            "x-",
            "a..b",
            "a___b",
            "x:",
            "x:a b",
            "x@sha256:12",
            "host.io:0/x",
            "host.io:99999/x",
            "[::g]/x",
            "x:täg",
            "x/",
            "ho_st.io/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text} -> {}", parse(text));
        }
    }

    #[test]
    fn tells_loopback_from_the_rest() {
        for (text, expected) in [
            ("localhost:5000/x", true),
            ("127.0.0.1:5000/x", true),
            ("[::1]:5000/x", true),
            ("hello.localhost:5000/x", true),
            ("10.0.0.1:5000/x", false),
            ("localhost.example.com/x", false),
            ("nginx", false),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().is_loopback(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_printing_is_stable(text in "[a-z0-9./:@\\[\\]_\\-\\PC]{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn well_formed_names_are_taken(
            host in "([a-z]{1,9}\\.io(:[1-9][0-9]{0,3})?/)?",
            first in "[a-z0-9]{1,5}([_-][a-z0-9]{1,5}){0,2}",
            rest in "(/[a-z0-9]{1,5}([._-][a-z0-9]{1,5}){0,2}){0,2}",
            tag in "(:[a-zA-Z0-9_][a-z.-]{0,9})?",
        ) {
            let text = format!("{host}{first}{rest}{tag}");
            prop_assert!(text.parse::<Reference>().is_ok(), "{}", text);
        }
    }
}
