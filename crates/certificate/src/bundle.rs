//! A chain with its private key, as it is kept and handed to an edge.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::error::CertificateError;

/// The chain, the host's certificate first, and the key to it.
pub struct Bundle {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({} certificates, hidden key)", self.chain.len())
    }
}

impl Bundle {
    /// What [`Bundle::to_pem`] wrote.
    pub fn from_pem(pem: &[u8]) -> Result<Bundle, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|_| CertificateError::NoCertificate)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)?;
        Ok(Bundle { chain, key })
    }

    /// The key, then the chain.
    pub fn to_pem(&self) -> Zeroizing<Vec<u8>> {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let bytes: usize = self.chain.iter().map(|it| it.len()).sum();
        // Enough for all of it: growing would leave parts of the key behind.
        let capacity = 2 * (bytes + self.key.secret_der().len()) + 1024;
        let mut pem = Zeroizing::new(Vec::with_capacity(capacity));
        append(&mut pem, label, self.key.secret_der());
        for certificate in &self.chain {
            append(&mut pem, "CERTIFICATE", certificate);
        }
        pem
    }

    /// In the form TLS serves it.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let key = ring::sign::any_supported_type(&self.key)
            .map_err(|_| CertificateError::KeyUnsupported)?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        match certified.keys_match() {
            Ok(()) => Ok(Arc::new(certified)),
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::KeyMismatch),
            Err(error) => Err(CertificateError::Unreadable { number: 1, why: error.to_string() }),
        }
    }

    /// The end of its validity, in milliseconds since the epoch.
    pub fn not_after_ms(&self) -> Result<i64, CertificateError> {
        let first = self.chain.first().ok_or(CertificateError::NoCertificate)?;
        crate::facts::not_after_ms(first)
    }
}

/// Characters a line of PEM has (RFC 7468 §2).
const LINE_CHARS: usize = 64;

fn append(pem: &mut Zeroizing<Vec<u8>>, label: &str, der: &[u8]) {
    pem.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    let text = Zeroizing::new(STANDARD.encode(der));
    for line in text.as_bytes().chunks(LINE_CHARS) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
}
