//! The authority of an installation: it vouches for hosts that nobody else does, to
//! those who chose to trust it.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::bundle::Bundle;
use crate::error::CertificateError;
use crate::facts;

/// How long people who trusted it once need not do it again.
const AUTHORITY_VALIDITY: Duration = Duration::days(3650);

/// How long what it issues is good: made anew long before, and no more than what
/// browsers take of public authorities.
const HOST_VALIDITY: Duration = Duration::days(90);

/// Clocks differ: what is made now must be good for a client that is behind.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Who it says it is besides its name.
const ORGANIZATION: &str = "HelixStack";

/// Issues certificates.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(hidden key)")
    }
}

impl Authority {
    /// A fresh one of this name.
    pub fn create(name: &str, now_ms: i64) -> Result<Authority, CertificateError> {
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut params = params(Vec::new(), now_ms, AUTHORITY_VALIDITY)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        params.distinguished_name.push(DnType::CommonName, name);
        // It issues for hosts and makes no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key).map_err(|error| failed(&error))?;
        Ok(Authority { certificate: made.der().clone(), pem: made.pem(), key })
    }

    /// One that was made before, of its certificate and its key.
    pub fn load(certificate: &str, key: &[u8]) -> Result<Authority, CertificateError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| CertificateError::NoCertificate)?;
        let text = std::str::from_utf8(key).map_err(|_| CertificateError::NoKey)?;
        let key = KeyPair::from_pem(text).map_err(|_| CertificateError::NoKey)?;
        Ok(Authority { certificate: der, pem: certificate.to_owned(), key })
    }

    /// What clients are to trust.
    pub fn certificate_pem(&self) -> String {
        self.pem.clone()
    }

    /// The key, for safe keeping.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// Lower-case hex sha256 of its certificate.
    pub fn fingerprint(&self) -> String {
        facts::fingerprint(&self.certificate)
    }

    /// The end of its validity, in milliseconds since the epoch.
    pub fn not_after_ms(&self) -> Result<i64, CertificateError> {
        facts::not_after_ms(&self.certificate)
    }

    /// A fresh certificate for a host, with a key of its own.
    pub fn issue(&self, host: &str, now_ms: i64) -> Result<Bundle, CertificateError> {
        let host = host.to_ascii_lowercase();
        let mut params = params(vec![host], now_ms, HOST_VALIDITY)?;
        // What it is for is in the alternative names; a subject would only repeat it.
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key);
        let issuer = issuer.map_err(|error| failed(&error))?;
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let made = params.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Bundle { chain: vec![made.der().clone()], key })
    }
}

fn params(
    names: Vec<String>,
    now_ms: i64,
    validity: Duration,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names).map_err(|error| failed(&error))?;
    let now = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1000))
        .map_err(|error| CertificateError::Issue(error.to_string()))?;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + validity;
    Ok(params)
}

fn failed(error: &rcgen::Error) -> CertificateError {
    CertificateError::Issue(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01.
    const NOW: i64 = 1_767_225_600_000;

    #[test]
    fn one_that_was_kept_goes_on_issuing_under_the_same_name() {
        let made = Authority::create("test", NOW).unwrap();
        let loaded = Authority::load(&made.certificate_pem(), made.key_pem().as_bytes()).unwrap();
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert!(loaded.not_after_ms().unwrap() > NOW);
        let (one, other) = (made.issue("a.localhost", NOW), loaded.issue("a.localhost", NOW));
        let parsed = |bundle: &Bundle| {
            let parsed = facts::parse(&bundle.chain[0], 1).unwrap();
            (parsed.issuer().to_string(), parsed.raw_serial().to_vec())
        };
        let (one, other) = (parsed(&one.unwrap()), parsed(&other.unwrap()));
        assert_eq!(one.0, other.0);
        assert_ne!(one.1, other.1, "two certificates of one issuer have serials of their own");
    }
}
