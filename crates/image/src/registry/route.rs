//! Addresses of the registry. A repository name may contain slashes, so
//! addresses are taken apart from their end.

use http::Uri;

/// An address below `/v2`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    /// None for `/v2/` itself.
    pub(super) repository: Option<&'a str>,
    pub(super) target: Target<&'a str>,
}

/// What of a repository is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<T> {
    Nothing,
    Manifest(T),
    Blob(T),
    Uploads,
    Upload(T),
    Tags,
}

impl Target<&str> {
    pub(super) fn to_owned(&self) -> Target<String> {
        match self {
            Self::Nothing => Target::Nothing,
            Self::Manifest(text) => Target::Manifest((*text).to_owned()),
            Self::Blob(text) => Target::Blob((*text).to_owned()),
            Self::Uploads => Target::Uploads,
            Self::Upload(text) => Target::Upload((*text).to_owned()),
            Self::Tags => Target::Tags,
        }
    }
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Self { repository: None, target: Target::Nothing });
        }
        let found = |name, target| Some(Self { repository: Some(name), target });
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return found(name, Target::Tags);
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return found(name, Target::Uploads);
        }
        let (front, last) = rest.rsplit_once('/')?;
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            return found(name, Target::Upload(last));
        }
        if let Some(name) = front.strip_suffix("/blobs") {
            return found(name, Target::Blob(last));
        }
        found(front.strip_suffix("/manifests")?, Target::Manifest(last))
    }
}

/// The query of an address; the values used here need `%3A`, `%2F` and `+` at
/// most.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&');
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((key.to_owned(), decoded(value)?))
        };
        Self(pairs.filter_map(pair).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_and_keywords_are_told_apart() {
        let parse = |path| Route::parse(path).map(|route| (route.repository, route.target));
        assert_eq!(parse("/v2/"), Some((None, Target::Nothing)));
        assert_eq!(parse("/v2"), Some((None, Target::Nothing)));
        assert_eq!(parse("/v2/a/b/manifests/1"), Some((Some("a/b"), Target::Manifest("1"))));
        assert_eq!(parse("/v2/blobs/blobs/x"), Some((Some("blobs"), Target::Blob("x"))));
        assert_eq!(parse("/v2/a/blobs/uploads/"), Some((Some("a"), Target::Uploads)));
        assert_eq!(parse("/v2/a/blobs/uploads/7"), Some((Some("a"), Target::Upload("7"))));
        assert_eq!(parse("/v2/a/tags/list"), Some((Some("a"), Target::Tags)));
        assert_eq!(parse("/v2/a"), None);
        assert_eq!(parse("/v2/a/other/x"), None);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::of(&"/?digest=sha256%3Aab&from=a%2Fb&bad=%zz".parse().unwrap());
        assert_eq!(query.get("digest").as_deref(), Some("sha256:ab"));
        assert_eq!(query.get("from").as_deref(), Some("a/b"));
        assert_eq!(query.get("bad"), None);
    }
}
