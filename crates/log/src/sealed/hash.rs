//! Keyed hashes: what may be compared by everybody and guessed by nobody.
//!
//! Start at [`Sealed::keyed_hash`]. A plain hash of a password tells whoever reads
//! it when a guess is right; one under a key that is sealed itself does not. The
//! key stays the same when master keys are rotated, so that hashes stay
//! comparable.

use ring::hmac;

use super::cipher::{self, random_key};
use super::{Sealed, SealedError};

/// The record that has the key.
const KEY_ID: &str = "helix.hash-key";
const KEY_AAD: &[u8] = b"helix/sealed/hash-key/1";

impl Sealed {
    /// HMAC-SHA256 of the parts under the installation's own key. `purpose` keeps
    /// the hashes of one use apart from those of another.
    ///
    /// # Errors
    /// When the key cannot be read or made.
    pub async fn keyed_hash(
        &self,
        purpose: &str,
        parts: &[&[u8]],
    ) -> Result<[u8; 32], SealedError> {
        let key = match self.get(KEY_ID, KEY_AAD).await? {
            Some(key) => key,
            None => self.make_key().await?,
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let mut context = hmac::Context::with_key(&key);
        // Each with its length, so that no two lists of parts run into each other.
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        Ok(hash)
    }

    /// Of several processes that come here at once, one makes the key and all
    /// use it.
    async fn make_key(&self) -> Result<super::Plaintext, SealedError> {
        let fresh = random_key()?;
        let row = cipher::seal(self.keys().active(), KEY_ID, &fresh[..], KEY_AAD)?;
        self.rows.insert(row).await?;
        let kept = self.get(KEY_ID, KEY_AAD).await?;
        kept.ok_or_else(|| SealedError::Tampered { id: KEY_ID.to_owned() })
    }
}
