//! Sending an image from a store to a registry: what is missing there, then
//! the manifest.

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
use crate::remote::{Clients, Direction, Remote, retried};
use crate::store::{Store, mismatch};

const READ_BYTES: usize = 128 * 1024;

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
    if let Some(expected) = reference
        .digest()
        .filter(|digest| digest != manifest_digest)
    {
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
        futures::stream::iter(&manifest.layers)
            .map(|layer| blob(store, &remote, layer, &meter))
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect::<Vec<()>>()
            .await?;
        let identifier = reference
            .tag()
            .map_or_else(|| manifest_digest.to_string(), str::to_owned);
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
            return Ok(None);
        }
        let file = match store.open_blob(&blob.digest) {
            Ok(file) => tokio::fs::File::from_std(file),
            Err(error) => return Ok(Some(error)),
        };
        let stream = ReaderStream::with_capacity(file, READ_BYTES);
        let body = reqwest::Body::wrap_stream(stream);
        remote
            .upload(&blob.digest, blob.size, body)
            .await
            .map(|()| None)
    });
    within(LAYER_TIMEOUT, &what, async {
        match sending.await {
            Ok(None) => {
                meter.add(blob.size);
                Ok(())
            }
            Ok(Some(error)) => Err(error),
            Err(failure) => Err(remote.explain(failure, what.clone())),
        }
    })
    .await
}
