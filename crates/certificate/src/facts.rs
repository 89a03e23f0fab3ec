//! What a host's certificate says of itself.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::error::CertificateError;

/// Hosts one certificate may name: as many as the largest public authorities allow.
pub(crate) const NAMES_MAX: usize = 100;

/// Longest host name there is (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Longest part of a host name between dots.
const LABEL_BYTES_MAX: usize = 63;

/// How much of an issuer's name is told.
const ISSUER_CHARS_MAX: usize = 120;

/// What may be known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Hosts in lower case; one that begins with `*.` stands for all one level below.
    pub names: Vec<String>,
    /// Who issued it, in its own words.
    pub issuer: String,
    pub not_before_ms: i64,
    pub not_after_ms: i64,
    /// Lower-case hex sha256 of the certificate.
    pub fingerprint: String,
    /// Clients that know only authorities need more than this file: it has one
    /// certificate, which somebody else issued.
    pub lacks_issuer: bool,
}

pub(crate) fn of(certificate: &CertificateDer<'_>, alone: bool) -> Result<Facts, CertificateError> {
    let parsed = parse(certificate, 1)?;
    let mut names = Vec::new();
    let alternatives = parsed.subject_alternative_name().map_err(|error| unreadable(1, &error))?;
    for name in alternatives.iter().flat_map(|it| &it.value.general_names) {
        // Of addresses and the like nobody asks for by host name.
        let GeneralName::DNSName(name) = name else { continue };
        let name = name.to_ascii_lowercase();
        if !is_host(name.strip_prefix("*.").unwrap_or(&name)) {
            return Err(CertificateError::BadName(told(&name)));
        }
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > NAMES_MAX {
            return Err(CertificateError::TooManyNames { max: NAMES_MAX });
        }
    }
    if names.is_empty() {
        return Err(CertificateError::NoNames);
    }
    let validity = parsed.validity();
    Ok(Facts {
        names,
        issuer: issuer(&parsed),
        not_before_ms: validity.not_before.timestamp().saturating_mul(1000),
        not_after_ms: validity.not_after.timestamp().saturating_mul(1000),
        fingerprint: fingerprint(certificate),
        lacks_issuer: alone && parsed.issuer().as_raw() != parsed.subject().as_raw(),
    })
}

pub(crate) fn not_after_ms(certificate: &CertificateDer<'_>) -> Result<i64, CertificateError> {
    let parsed = parse(certificate, 1)?;
    Ok(parsed.validity().not_after.timestamp().saturating_mul(1000))
}

pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The certificate at this place in the file, from 1.
pub(crate) fn parse<'d>(
    certificate: &'d CertificateDer<'_>,
    number: usize,
) -> Result<X509Certificate<'d>, CertificateError> {
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| unreadable(number, &error))?;
    if rest.is_empty() {
        return Ok(parsed);
    }
    Err(CertificateError::Unreadable { number, why: "there is more behind it".to_owned() })
}

fn unreadable(number: usize, why: &dyn std::fmt::Display) -> CertificateError {
    CertificateError::Unreadable { number, why: told(&why.to_string()) }
}

/// The issuer's common name or else its organisation, otherwise all of its name.
fn issuer(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.issuer();
    let mut words = name.iter_common_name().chain(name.iter_organization());
    let short = words.find_map(|word| word.as_str().ok());
    short.map_or_else(|| told(&name.to_string()), told)
}

/// Text from a certificate, fit for a terminal.
fn told(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(ISSUER_CHARS_MAX).collect()
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(plain)
    };
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label)
}
