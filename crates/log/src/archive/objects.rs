//! An archive in an S3-compatible object store, one object for each segment, for
//! replicas that share no file system.
//!
//! Start at [`ObjectArchive::s3`]. An object is there whole or not at all, and its
//! name has the digest of its bytes, so nothing here needs a rename or a lock.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

use super::ArchiveError;
use super::credentials;
use super::segment::SEGMENT_FILE_MAX_BYTES;
use super::store::{ArchiveStore, SegmentName};

const SCHEME: &str = "s3://";

/// What variables of the environment that are meant for object stores begin with.
const VARIABLE_PREFIX: &str = "AWS_";

/// An [`ArchiveStore`] below one prefix of a bucket.
#[derive(Clone)]
pub struct ObjectArchive {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// `s3://bucket/prefix`, for people.
    place: String,
}

impl fmt::Debug for ObjectArchive {
    /// Without the store: it holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectArchive").field(&self.place).finish()
    }
}

impl ObjectArchive {
    /// The archive at `s3://BUCKET/PREFIX`. Endpoint, region and credentials are
    /// among `variables`, by the names that other programs know them by
    /// (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …); what is no such
    /// variable is passed over. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// When the URL is none, or the variables contradict each other.
    pub fn s3(
        url: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ObjectArchive, ArchiveError> {
        let (store, prefix) = s3_store(url, variables, RetryConfig::default())
            .map_err(|it| failed("use", url, it))?;
        Ok(ObjectArchive { store: Arc::new(store), prefix, place: url.to_owned() })
    }

    fn object(&self, name: &SegmentName) -> Path {
        self.prefix.clone().join(name.to_string())
    }

    fn failed(&self, action: &'static str, source: object_store::Error) -> ArchiveError {
        failed(action, &self.place, source)
    }
}

#[async_trait]
impl ArchiveStore for ObjectArchive {
    async fn put(&self, name: &SegmentName, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let put = self.store.put(&self.object(name), bytes.into()).await;
        put.map(drop).map_err(|source| self.failed("write to", source))
    }

    async fn get(&self, name: &SegmentName) -> Result<Vec<u8>, ArchiveError> {
        let unreadable = |source| self.failed("read from", source);
        let found = self.store.get(&self.object(name)).await.map_err(unreadable)?;
        // Ours are smaller; what is larger is not read into memory to find out.
        if found.meta.size > SEGMENT_FILE_MAX_BYTES {
            return Err(ArchiveError::Damaged { name: *name });
        }
        Ok(found.bytes().await.map_err(unreadable)?.to_vec())
    }

    async fn list(&self) -> Result<Vec<SegmentName>, ArchiveError> {
        let listed = self.store.list(Some(&self.prefix)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|source| self.failed("list", source))?;
        let names = listed.iter().filter_map(|object| {
            // What is further below is not ours.
            let mut below = object.location.prefix_match(&self.prefix)?;
            let name = below.next()?;
            below.next().is_none().then(|| SegmentName::parse(name.as_ref()))?
        });
        let mut names: Vec<SegmentName> = names.collect();
        names.sort();
        Ok(names)
    }
}

/// The bucket of `s3://BUCKET/PREFIX`, and the prefix. Credentials may be in a file that
/// a variable names; `retries` says for how long the store itself is tried.
pub(crate) fn s3_store(
    url: &str,
    variables: impl IntoIterator<Item = (String, String)>,
    retries: RetryConfig,
) -> Result<(AmazonS3, Path), object_store::Error> {
    let (bucket, prefix) = bucket_and_prefix(url).ok_or_else(|| no_such_url(url))?;
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retries);
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let filed = credentials::from_file(&variables)
        .map_err(|source| object_store::Error::Generic { store: "S3", source: source.into() })?;
    for (name, value) in variables.into_iter().chain(filed) {
        if !name.starts_with(VARIABLE_PREFIX) {
            continue;
        }
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
        let Ok(key) = key else { continue };
        // Who names an endpoint without TLS has decided that.
        if is_endpoint(&key) && value.starts_with("http://") {
            let options = ClientOptions::new().with_allow_http(true);
            builder = builder.with_client_options(options);
        }
        builder = builder.with_config(key, value);
    }
    // A variable may have named another bucket for other programs.
    Ok((builder.with_bucket_name(bucket).build()?, prefix.into()))
}

fn bucket_and_prefix(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix(SCHEME)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, prefix.trim_matches('/')))
}

fn is_endpoint(key: &AmazonS3ConfigKey) -> bool {
    matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint)
}

fn no_such_url(url: &str) -> object_store::Error {
    let source = format!("`{url}` is not {SCHEME}BUCKET/PREFIX");
    object_store::Error::Generic { store: "S3", source: source.into() }
}

fn failed(action: &'static str, place: &str, source: object_store::Error) -> ArchiveError {
    ArchiveError::Objects { action, place: place.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_named_by_bucket_and_prefix() {
        assert_eq!(bucket_and_prefix("s3://logs"), Some(("logs", "")));
        assert_eq!(bucket_and_prefix("s3://logs/a/b/"), Some(("logs", "a/b")));
        assert_eq!(bucket_and_prefix("s3:///a"), None);
        assert_eq!(bucket_and_prefix("/var/lib"), None);
    }
}
