//! What an authority is shown in a handshake to see who has a host (RFC 8737).

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::error::CertificateError;

/// A certificate for the host that nobody vouches for and that carries the hash of what
/// was agreed on with the authority. For nobody else: clients refuse it.
pub fn challenge(host: &str, agreed: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
    let failed = |error: rcgen::Error| CertificateError::Issue(error.to_string());
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let hash = Sha256::digest(agreed.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&hash)];
    let key = KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = ring::sign::any_supported_type(&key).map_err(|_| CertificateError::KeyUnsupported)?;
    // Not as `Bundle::certified_key` does, which reads the certificate as a client would:
    // a critical extension that clients do not know is what it is about.
    Ok(Arc::new(CertifiedKey::new(vec![made.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn it_carries_the_hash_of_what_was_agreed_on() {
        let made = challenge("a.example", "token.thumb").unwrap();
        let (_, parsed) = X509Certificate::from_der(&made.cert[0]).unwrap();
        let shown =
            parsed.extensions().iter().find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let shown = shown.expect("the extension of RFC 8737");
        assert!(shown.critical);
        // An octet string of 32 bytes.
        assert_eq!(shown.value[..2], [4, 32]);
        assert_eq!(shown.value[2..], Sha256::digest(b"token.thumb")[..]);
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(format!("{:?}", names.value).contains("a.example"));
    }
}
