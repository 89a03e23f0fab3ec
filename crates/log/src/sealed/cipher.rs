//! The bytes of a sealed record: AES-256-GCM, twice.
//!
//! Start at [`seal`]. Both layers are `nonce (12) ‖ ciphertext ‖ tag (16)`. The
//! data key is used once; the master key wraps one data key for each put, far
//! below the 2³² messages for which random nonces of GCM are safe.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::SealedError;
use super::keys::{KEY_BYTES, MasterKey};
use super::rows::{SealedRow, WrappedKey};

/// Keep the two layers, and every other use of GCM, apart. A change of the
/// layout needs new tags.
const DATA_TAG: &[u8] = b"helix/sealed/data/1\0";
const WRAP_TAG: &[u8] = b"helix/sealed/wrap/1\0";

pub(super) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// A row with `plaintext` under a fresh data key, wrapped by `master`.
pub(super) fn seal(
    master: &MasterKey,
    id: &str,
    plaintext: &[u8],
    aad: &[u8],
) -> Result<SealedRow, SealedError> {
    let data_key = random_key()?;
    let ciphertext = encrypt(&data_key, plaintext, &data_aad(id, aad))?;
    Ok(SealedRow { key: wrap(master, id, &data_key)?, ciphertext })
}

pub(super) fn open(
    data_key: &KeyBytes,
    id: &str,
    ciphertext: Vec<u8>,
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    decrypt(data_key, ciphertext, &data_aad(id, aad)).ok_or_else(|| tampered(id))
}

pub(super) fn wrap(
    master: &MasterKey,
    id: &str,
    data_key: &KeyBytes,
) -> Result<WrappedKey, SealedError> {
    let wrapped = encrypt(master.bytes(), &data_key[..], &wrap_aad(master.id(), id))?;
    Ok(WrappedKey { id: id.to_owned(), key_id: master.id().to_owned(), wrapped })
}

pub(super) fn unwrap(master: &MasterKey, key: &WrappedKey) -> Result<KeyBytes, SealedError> {
    let aad = wrap_aad(&key.key_id, &key.id);
    let opened = decrypt(master.bytes(), key.wrapped.clone(), &aad);
    let opened = opened.ok_or_else(|| tampered(&key.id))?;
    let bytes: [u8; KEY_BYTES] = opened.as_slice().try_into().map_err(|_| tampered(&key.id))?;
    Ok(Zeroizing::new(bytes))
}

pub(super) fn random_key() -> Result<KeyBytes, SealedError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(&mut key[..]).map_err(|_| SealedError::NoRandomness)?;
    Ok(key)
}

/// The id's length goes first, so that no id and data run into another pair.
fn data_aad(id: &str, aad: &[u8]) -> Vec<u8> {
    [DATA_TAG, &(id.len() as u64).to_be_bytes(), id.as_bytes(), aad].concat()
}

fn wrap_aad(key_id: &str, id: &str) -> Vec<u8> {
    let length = (key_id.len() as u64).to_be_bytes();
    [WRAP_TAG, &length, key_id.as_bytes(), id.as_bytes()].concat()
}

fn tampered(id: &str) -> SealedError {
    SealedError::Tampered { id: id.to_owned() }
}

fn encrypt(key: &KeyBytes, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealedError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| SealedError::NoRandomness)?;
    // In place and with the tag's room reserved, so that no copy of the
    // plaintext is left in memory.
    let length = NONCE_LEN + plaintext.len();
    let mut bytes = Vec::with_capacity(length + AES_256_GCM.tag_len());
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = cipher(key).and_then(|it| {
        it.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut bytes[NONCE_LEN..]).ok()
    });
    let tag = sealed.ok_or(SealedError::NoRandomness)?;
    bytes.extend_from_slice(tag.as_ref());
    Ok(bytes)
}

/// `None` when it does not open.
fn decrypt(key: &KeyBytes, bytes: Vec<u8>, aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(bytes);
    let (nonce, _) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length =
        cipher(key)?.open_within(nonce, Aad::from(aad), &mut bytes, NONCE_LEN..).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

/// `None` only for a key of another length, which its type rules out.
fn cipher(key: &KeyBytes) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &key[..]).ok().map(LessSafeKey::new)
}
