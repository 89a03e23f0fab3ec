//! Sending an image from a store to a registry: what is missing there, then
//! the manifest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use crate::Result;
use crate::auth::Auth;
use crate::digest::Digest;
use crate::limits::{LAYER_TIMEOUT, MANIFEST_BYTES_MAX, PARALLEL_LAYERS, TRANSFER_TIMEOUT};
use crate::manifest::{Descriptor, Document};
use crate::progress::{Meter, Progress};
use crate::pull::{Transport, within};
use crate::reference::Reference;
use crate::remote::{Clients, Direction, Failure, Remote, retried};
use crate::store::{Store, mismatch};

const READ_BYTES: usize = 128 * 1024;
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Uploads an image under the reference's tag, or under its digest when the
/// reference has no tag.
pub async fn push(
    store: &Store,
    manifest_digest: &Digest,
    reference: &Reference,
    auth: &Auth,
    transport: &Transport,
    progress: &dyn Progress,
) -> Result<()> {
    if let Some(expected) = reference.digest().filter(|digest| digest != manifest_digest) {
        return Err(mismatch("the image to push", &expected, manifest_digest));
    }
    let remote = Clients::new(transport)?.remote(reference, auth, Direction::Push)?;
    let bytes = Bytes::from(store.read(manifest_digest, MANIFEST_BYTES_MAX)?);
    let media_type = Document::parse(&bytes)?.media_type().to_owned();
    let manifest = store.manifest(manifest_digest)?;
    let meter = Meter::new(progress, manifest.layer_bytes() + manifest.config.size);
    let what = reference.to_string();
    within(TRANSFER_TIMEOUT, &what, async {
        // One request before the parallel ones: it wins the authorization.
        blob(store, &remote, &manifest.config, &meter).await?;
        // Made before the stream, for the reason `Puller::fetch` gives.
        let uploads: Vec<_> =
            manifest.layers.iter().map(|layer| blob(store, &remote, layer, &meter)).collect();
        futures::stream::iter(uploads)
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect::<Vec<()>>()
            .await?;
        let identifier = reference.tag().map_or_else(|| manifest_digest.to_string(), str::to_owned);
        retried(|| remote.put_manifest(&identifier, &media_type, &bytes))
            .await
            .map_err(|failure| remote.explain(failure, what.clone()))
    })
    .await
}

async fn blob(store: &Store, remote: &Remote, blob: &Descriptor, meter: &Meter<'_>) -> Result<()> {
    let what = format!("layer {}", blob.digest);
    let digest = blob.digest.to_string();
    let sending = retried(|| async {
        if remote.exists("blobs", &digest).await? {
            meter.add(blob.size);
            return Ok(None);
        }
        match store.open_blob(&blob.digest) {
            Ok(file) => send(remote, blob, file, meter).await.map(|()| None),
            Err(error) => Ok(Some(error)),
        }
    });
    within(LAYER_TIMEOUT, &what, async {
        match sending.await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(failure) => Err(remote.explain(failure, what.clone())),
        }
    })
    .await
}

/// Uploads one blob. The body lives on its own, so what it has handed out is
/// counted beside it and reported from here now and then.
async fn send(
    remote: &Remote,
    blob: &Descriptor,
    file: std::fs::File,
    meter: &Meter<'_>,
) -> Result<(), Failure> {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_BYTES);
    let stream = stream.inspect_ok(move |chunk| {
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    let body = reqwest::Body::wrap_stream(stream);
    let mut uploading = std::pin::pin!(remote.upload(&blob.digest, blob.size, body));
    let mut reported = 0;
    let mut report = || {
        let now = sent.load(Ordering::Relaxed);
        meter.add(now - reported);
        reported = now;
    };
    let outcome = loop {
        match tokio::time::timeout(REPORT_EVERY, &mut uploading).await {
            Ok(outcome) => break outcome,
            Err(_) => report(),
        }
    };
    report();
    if outcome.is_err() {
        meter.take_back(reported);
    }
    outcome
}
