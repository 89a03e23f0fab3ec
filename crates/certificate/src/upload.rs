//! What a person uploads: two files, checked against each other.

use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;

use crate::bundle::Bundle;
use crate::error::CertificateError;
use crate::facts::{self, Facts};

/// Largest file of certificates: ten of the usual size fit several times.
pub const CHAIN_BYTES_MAX: usize = 64 * 1024;

/// Largest file of a key: one of RSA with 8,192 bits has 6.5 KB.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// Longest chain: public ones have two to four certificates.
const CHAIN_MAX: usize = 10;

/// What was uploaded, found good.
#[derive(Debug)]
pub struct Upload {
    pub bundle: Bundle,
    pub facts: Facts,
}

/// Reads a chain and a key, both in PEM, and checks that they can be served now.
pub fn read(chain: &[u8], key: &[u8], now_ms: i64) -> Result<Upload, CertificateError> {
    let chain = read_chain(chain)?;
    let key = read_key(key)?;
    let facts = facts::of(&chain[0], chain.len() == 1)?;
    let bundle = Bundle { chain, key };
    bundle.certified_key()?;
    if facts.not_after_ms <= now_ms {
        return Err(CertificateError::Expired);
    }
    if facts.not_before_ms > now_ms {
        return Err(CertificateError::NotYetValid);
    }
    check_chain(&bundle.chain, now_ms)?;
    Ok(Upload { bundle, facts })
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    if pem.len() > CHAIN_BYTES_MAX {
        return Err(CertificateError::ChainTooLarge { max: CHAIN_BYTES_MAX });
    }
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = chain.len() + 1;
        let unreadable = |why: String| CertificateError::Unreadable { number, why };
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        if number > CHAIN_MAX {
            return Err(CertificateError::TooManyCertificates { max: CHAIN_MAX });
        }
        ParsedCertificate::try_from(&certificate).map_err(|error| unreadable(error.to_string()))?;
        chain.push(certificate);
    }
    if chain.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(chain) }
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    if pem.len() > KEY_BYTES_MAX {
        return Err(CertificateError::KeyTooLarge { max: KEY_BYTES_MAX });
    }
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::KeyEncrypted);
    }
    // The error could tell what is in the file.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)
}

/// Whether each certificate was issued by the next one, as clients will see it. Who
/// issued the last, they have to know.
fn check_chain(chain: &[CertificateDer<'static>], now_ms: i64) -> Result<(), CertificateError> {
    let [leaf, between @ .., last] = chain else { return Ok(()) };
    for (index, pair) in chain.windows(2).enumerate() {
        let (issued, issuer) =
            (facts::parse(&pair[0], index + 1)?, facts::parse(&pair[1], index + 2)?);
        if issued.issuer().as_raw() != issuer.subject().as_raw() {
            return Err(CertificateError::Order { number: index + 1 });
        }
    }
    let broken = |error: rustls::Error| CertificateError::Chain(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(last.clone()).map_err(broken)?;
    let seconds = u64::try_from(now_ms / 1000).unwrap_or(0);
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf).map_err(broken)?,
        &roots,
        between,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        ring::default_provider().signature_verification_algorithms.all,
    )
    .map_err(broken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Authority;

    /// 2026-01-01.
    const NOW: i64 = 1_767_225_600_000;
    const DAY: i64 = 86_400_000;

    fn split(bundle: &Bundle) -> (Vec<u8>, Vec<u8>) {
        let pem = bundle.to_pem();
        let text = std::str::from_utf8(&pem).unwrap();
        let at = text.find("-----BEGIN CERTIFICATE").unwrap();
        (text.as_bytes()[at..].to_vec(), text.as_bytes()[..at].to_vec())
    }

    fn refused(chain: &[u8], key: &[u8], now_ms: i64) -> String {
        read(chain, key, now_ms).unwrap_err().to_string()
    }

    #[test]
    fn a_chain_and_its_key_are_taken_and_tell_what_they_are() {
        let authority = Authority::create("test", NOW).unwrap();
        let bundle = authority.issue("Www.example.com", NOW).unwrap();
        let (chain, key) = split(&bundle);
        let whole = [chain.clone(), authority.certificate_pem().into_bytes()].concat();
        let upload = read(&whole, &key, NOW + DAY).unwrap();
        assert_eq!(upload.facts.names, ["www.example.com"]);
        assert_eq!(upload.facts.issuer, "test");
        assert!(!upload.facts.lacks_issuer);
        assert!(upload.facts.not_after_ms > NOW + 30 * DAY);
        assert_eq!(upload.facts.fingerprint.len(), 64);
        assert!(read(&chain, &key, NOW + DAY).unwrap().facts.lacks_issuer);
        let again = Bundle::from_pem(&upload.bundle.to_pem()).unwrap();
        assert_eq!(again.certified_key().unwrap().cert.len(), 2);
    }

    #[test]
    fn what_clients_would_refuse_is_refused_here() {
        let authority = Authority::create("test", NOW).unwrap();
        let stranger = Authority::create("test", NOW).unwrap();
        let named = Authority::create("other", NOW).unwrap();
        let (chain, key) = split(&authority.issue("a.example", NOW).unwrap());
        let (_, other) = split(&authority.issue("a.example", NOW).unwrap());
        let with = |last: &Authority| [chain.clone(), last.certificate_pem().into_bytes()].concat();
        assert_eq!(refused(&chain, &other, NOW), "the key is not that of the certificate");
        assert_eq!(refused(&chain, &key, NOW + 400 * DAY), "the certificate has expired");
        assert_eq!(refused(&chain, &key, NOW - DAY), "the certificate is not valid yet");
        assert!(refused(&with(&stranger), &key, NOW).starts_with("the chain does not hold"));
        assert!(refused(&with(&named), &key, NOW).contains("not issued by the one after it"));
        assert_eq!(refused(b"", &key, NOW), "the certificate file has no certificate in PEM form");
        assert_eq!(refused(&chain, &chain, NOW), "the key file has no private key in PEM form");
        let many = chain.repeat(CHAIN_MAX + 1);
        assert!(refused(&many, &key, NOW).contains("more than 10 certificates"));
        let large = vec![b'\n'; CHAIN_BYTES_MAX + 1];
        assert!(refused(&large, &key, NOW).contains("larger than"));
        let sealed =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(refused(&chain, sealed, NOW), "the key is protected by a passphrase");
    }

    #[test]
    fn no_message_shows_a_part_of_the_key() {
        let authority = Authority::create("test", NOW).unwrap();
        let (chain, key) = split(&authority.issue("a.example", NOW).unwrap());
        let text = String::from_utf8(key.clone()).unwrap();
        let damaged = text.replace("-----END PRIVATE KEY-----", "");
        assert_eq!(
            refused(&chain, damaged.as_bytes(), NOW),
            "the key file has no private key in PEM form"
        );
        let bundle = Bundle::from_pem(&[key, chain].concat()).unwrap();
        assert_eq!(format!("{bundle:?}"), "Bundle(1 certificates, hidden key)");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_refused(at in 0usize..600, byte in any::<u8>()) {
            let authority = Authority::create("test", NOW).unwrap();
            let (mut chain, key) = split(&authority.issue("a.example", NOW).unwrap());
            let at = at % chain.len();
            chain[at] = byte;
            // Good or refused; what matters is that it comes back.
            let _ = read(&chain, &key, NOW);
        }
    }
}
