//! The bytes of backups: AES-256-GCM, and names that tell nothing.
//!
//! Each volume has a key. From it come one that names pieces, by HMAC of the sha256 of
//! what is in them, and one that encrypts. A piece is encrypted under a key of its own
//! that is derived from its name: so no nonce is ever used for two contents, and the same
//! content is the same object. Everything is bound to org, volume and name, each with its
//! length; an index, which also fixes order and number of pieces, to its backup.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// What every associated data begins with; a change of the layout needs another.
const FORMAT: &str = "helix-backup-v1";

/// What a sealed piece has more than a plain one, at most.
pub(super) const OVERHEAD_BYTES: u64 = 64;

/// How a volume's backups are named and encrypted.
pub(super) struct Seal {
    names: hmac::Key,
    keys: hmac::Key,
    whose: Vec<u8>,
}

impl Seal {
    pub(super) fn new(org: &str, volume: &str, key: &[u8; 32]) -> Seal {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = |purpose: &str| {
            let tag = hmac::sign(&root, purpose.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
        };
        let whose = [FORMAT, org, volume].iter().flat_map(|part| with_length(part)).collect();
        Seal { names: derived("names"), keys: derived("keys"), whose }
    }

    /// The name of a piece.
    pub(super) fn id(&self, hash: &str) -> String {
        hex(hmac::sign(&self.names, hash.as_bytes()).as_ref())
    }

    pub(super) fn chunk(&self, hash: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let id = self.id(hash);
        // The key is this content's alone, so is any nonce.
        self.encrypt("chunk", &id, [0; NONCE_LEN], plain)
    }

    pub(super) fn open_chunk(&self, hash: &str, sealed: Vec<u8>) -> Option<Vec<u8>> {
        self.decrypt("chunk", &self.id(hash), sealed)
    }

    pub(super) fn index(&self, name: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        self.encrypt("index", name, nonce, plain)
    }

    pub(super) fn open_index(&self, name: &str, sealed: Vec<u8>) -> Option<Vec<u8>> {
        self.decrypt("index", name, sealed)
    }

    fn encrypt(
        &self,
        what: &str,
        name: &str,
        nonce: [u8; NONCE_LEN],
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(self.bound_to(what, name));
        let text = &mut sealed[NONCE_LEN..];
        let tag = self.key(what, name)?.seal_in_place_separate_tag(nonce, aad, text).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    fn decrypt(&self, what: &str, name: &str, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (nonce, _) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(self.bound_to(what, name));
        let key = self.key(what, name)?;
        let length = key.open_within(nonce, aad, &mut sealed, NONCE_LEN..).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    fn key(&self, what: &str, name: &str) -> Option<LessSafeKey> {
        let bytes = hmac::sign(&self.keys, &self.bound_to(what, name));
        UnboundKey::new(&AES_256_GCM, bytes.as_ref()).ok().map(LessSafeKey::new)
    }

    fn bound_to(&self, what: &str, name: &str) -> Vec<u8> {
        let parts = [what, name].into_iter().flat_map(with_length);
        self.whose.iter().copied().chain(parts).collect()
    }
}

fn with_length(part: &str) -> Vec<u8> {
    [&(part.len() as u64).to_be_bytes(), part.as_bytes()].concat()
}

/// Lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Whether a text looks like one.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
