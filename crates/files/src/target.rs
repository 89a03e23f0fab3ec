//! From the path of a URL to a path below the root. Pure.
//!
//! Start at [`Target::parse`]. The outcome holds plain names only: no `..`, no
//! separators, nothing hidden. `root` still does not trust it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

/// The one hidden name that is meant to be public, RFC 8615.
const WELL_KNOWN: &[u8] = b".well-known";

/// Longer than any path Linux opens.
const PATH_MAX_BYTES: usize = 4096;

/// What a path segment must not contain unescaped, RFC 3986 section 3.3.
const NOT_IN_SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    segments: Vec<Vec<u8>>,
    /// The URL ended in `/`, which asks for a folder.
    pub(crate) is_folder: bool,
}

/// Why a path names nothing here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TargetError {
    /// No browser sends this: an attempt to get somewhere else.
    Malformed,
    /// A well-formed name that is never served.
    Hidden,
}

impl Target {
    /// `path` is the path of the request's URL, still percent-encoded. Empty
    /// and `.` segments are passed over.
    pub(crate) fn parse(path: &str) -> Result<Target, TargetError> {
        if !path.starts_with('/') || path.len() > PATH_MAX_BYTES {
            return Err(TargetError::Malformed);
        }
        let mut segments = Vec::new();
        for encoded in path.split('/') {
            let name: Vec<u8> = percent_decode(encoded.as_bytes()).collect();
            match name.as_slice() {
                b"" | b"." => {}
                b".." => return Err(TargetError::Malformed),
                it if it.iter().any(|byte| matches!(byte, 0 | b'/' | b'\\')) => {
                    return Err(TargetError::Malformed);
                }
                it if it.starts_with(b".") && it != WELL_KNOWN => return Err(TargetError::Hidden),
                _ => segments.push(name),
            }
        }
        Ok(Target { segments, is_folder: path.ends_with('/') || path.ends_with("/.") })
    }

    /// Relative to the root; empty for the root itself.
    pub(crate) fn relative_path(&self) -> PathBuf {
        self.segments.iter().map(|it| OsStr::from_bytes(it)).collect()
    }

    /// The URL of this target as a folder. Built from the parsed names and not
    /// from what was sent: `//host/..` sent back as it came would lead to
    /// another host.
    pub(crate) fn folder_url(&self, query: Option<&str>) -> String {
        let mut url = String::from("/");
        for segment in &self.segments {
            url.extend(percent_encode(segment, NOT_IN_SEGMENT));
            url.push('/');
        }
        if let Some(query) = query {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn path_of(url: &str) -> Result<PathBuf, TargetError> {
        Target::parse(url).map(|it| it.relative_path())
    }

    #[test]
    fn names_are_decoded() {
        assert_eq!(path_of("/"), Ok(PathBuf::new()));
        assert_eq!(path_of("/a/b.txt"), Ok(PathBuf::from("a/b.txt")));
        assert_eq!(path_of("/a%20b/%C3%BC"), Ok(PathBuf::from("a b/ü")));
        assert_eq!(path_of("//a///./b/"), Ok(PathBuf::from("a/b")));
        assert_eq!(path_of("/100%"), Ok(PathBuf::from("100%")));
    }

    #[test]
    fn whatever_leaves_the_folder_is_refused() {
        for url in ["/..", "/a/../b", "/%2e%2e/x", "/.%2E", "/a%2f..%2fb", "/a\\b", "/%5c", "/%00"]
        {
            assert_eq!(path_of(url), Err(TargetError::Malformed), "{url}");
        }
        for url in ["*", "", "a", "http://host/"] {
            assert_eq!(path_of(url), Err(TargetError::Malformed), "{url}");
        }
    }

    #[test]
    fn hidden_names_are_refused_but_for_well_known() {
        assert_eq!(path_of("/.git/config"), Err(TargetError::Hidden));
        assert_eq!(path_of("/a/%2eenv"), Err(TargetError::Hidden));
        assert_eq!(path_of("/..."), Err(TargetError::Hidden));
        let challenge = PathBuf::from(".well-known/acme-challenge/x");
        assert_eq!(path_of("/.well-known/acme-challenge/x"), Ok(challenge));
        assert_eq!(path_of("/.well-known/.x"), Err(TargetError::Hidden));
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        let url = |path, query| Target::parse(path).unwrap().folder_url(query);
        assert_eq!(url("/docs", None), "/docs/");
        assert_eq!(url("//evil.example/a", Some("q=1")), "/evil.example/a/?q=1");
        assert_eq!(url("/a%0d%0ab", None), "/a%0D%0Ab/");
    }

    proptest! {
        #[test]
        fn every_accepted_path_is_plain_names(path in "/[-a-z./%\\\\0-9A-F]{0,40}") {
            if let Ok(target) = Target::parse(&path) {
                let relative = target.relative_path();
                let plain = |it| matches!(it, Component::Normal(_));
                prop_assert!(Path::new(&relative).components().all(plain));
                let again = Target::parse(&target.folder_url(None)).unwrap();
                prop_assert_eq!(again.relative_path(), relative);
            }
        }
    }
}
