//! Why a certificate cannot be served.

/// Why a certificate or its key cannot be used. Never with a part of a key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate file is larger than {max} bytes")]
    ChainTooLarge { max: usize },
    #[error("the key file is larger than {max} bytes")]
    KeyTooLarge { max: usize },
    #[error("the certificate file has no certificate in PEM form")]
    NoCertificate,
    #[error("the certificate file has more than {max} certificates")]
    TooManyCertificates { max: usize },
    #[error("certificate {number} of the file cannot be read: {why}")]
    Unreadable { number: usize, why: String },
    #[error("the key file has no private key in PEM form")]
    NoKey,
    #[error("the key is protected by a passphrase")]
    KeyEncrypted,
    #[error("the key is of a kind that is not served")]
    KeyUnsupported,
    #[error("the key is not that of the certificate")]
    KeyMismatch,
    #[error("the certificate names no host")]
    NoNames,
    #[error("the certificate names `{0}`, which is not a host name")]
    BadName(String),
    #[error("the certificate names more than {max} hosts")]
    TooManyNames { max: usize },
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("certificate {number} of the file was not issued by the one after it")]
    Order { number: usize },
    #[error("the chain does not hold: {0}")]
    Chain(String),
    #[error("a certificate cannot be made: {0}")]
    Issue(String),
}

impl CertificateError {
    /// What to try.
    pub fn hint(&self) -> &'static str {
        match self {
            CertificateError::ChainTooLarge { .. }
            | CertificateError::NoCertificate
            | CertificateError::TooManyCertificates { .. }
            | CertificateError::Unreadable { .. }
            | CertificateError::Order { .. }
            | CertificateError::Chain(_) => {
                "name the file with the host's certificate first and each issuer after it, \
                 often called fullchain.pem"
            }
            CertificateError::KeyTooLarge { .. } | CertificateError::NoKey => {
                "name the file that begins with `-----BEGIN PRIVATE KEY-----`, often privkey.pem"
            }
            CertificateError::KeyEncrypted => {
                "take the passphrase off first: `openssl pkey -in KEY -out PLAIN`"
            }
            CertificateError::KeyUnsupported => {
                "keys are ECDSA (P-256, P-384), Ed25519, or RSA of 2048 bits and more"
            }
            CertificateError::KeyMismatch => {
                "the key must be the one the certificate was asked for with"
            }
            CertificateError::NoNames
            | CertificateError::BadName(_)
            | CertificateError::TooManyNames { .. } => {
                "hosts are its DNS names (subjectAltName); the common name does not count"
            }
            CertificateError::Expired | CertificateError::NotYetValid => {
                "get another, and look at the server's clock"
            }
            CertificateError::Issue(_) => "the operator finds the cause in the server's output",
        }
    }

    /// Whether it is about the key rather than the chain.
    pub fn is_about_key(&self) -> bool {
        matches!(
            self,
            CertificateError::KeyTooLarge { .. }
                | CertificateError::NoKey
                | CertificateError::KeyEncrypted
                | CertificateError::KeyUnsupported
                | CertificateError::KeyMismatch
        )
    }
}
