//! What the client already has and which part it wants: conditional requests,
//! ranges and accepted encodings (RFC 9110 sections 12.5.3, 13 and 14). Pure.
//!
//! Start at [`is_unmodified`], [`range`] or [`encodings`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_ENCODING, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
};

/// Images are often built with every file dated to the epoch, or to 1980 where
/// a zip archive was involved, so that equal input gives equal bytes. Such a
/// date says nothing about a change, and must not validate a cached copy.
const MEANINGFUL_SINCE_S: i64 = 365 * 24 * 3600 * 11;

/// How a representation is recognised again.
pub(crate) struct Validators {
    /// With its quotes.
    pub(crate) etag: String,
    pub(crate) modified: Option<SystemTime>,
}

impl Validators {
    pub(crate) fn new(etag: String, modified_s: i64) -> Validators {
        let meaningful = u64::try_from(modified_s).ok().filter(|_| modified_s > MEANINGFUL_SINCE_S);
        let modified = meaningful.map(|it| UNIX_EPOCH + Duration::from_secs(it));
        Validators { etag, modified }
    }
}

/// Whether the client's copy is still good, which a 304 tells it.
pub(crate) fn is_unmodified(headers: &HeaderMap, validators: &Validators) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
        return lists
            .flat_map(|it| it.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == validators.etag);
    }
    let since = text(headers, &IF_MODIFIED_SINCE).and_then(|it| httpdate::parse_http_date(it).ok());
    since.zip(validators.modified).is_some_and(|(since, modified)| modified <= since)
}

/// The part of a file that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// `length` is at least 1 and the end within the file.
    Bytes {
        start: u64,
        length: u64,
    },
    /// Beyond the end.
    Unsatisfiable,
}

/// One range is honoured. Several would need a multipart body, which hardly
/// any client asks for and which is a known way to make a server work; the
/// whole file is a correct answer to them, as to a malformed range.
pub(crate) fn range(headers: &HeaderMap, validators: &Validators, total: u64) -> Part {
    let is_same = text(headers, &IF_RANGE).is_none_or(|it| is_strongly(it, validators));
    let asked = text(headers, &RANGE).filter(|_| is_same);
    asked.and_then(|it| parse_range(it, total)).unwrap_or(Part::Whole)
}

/// `If-Range` needs certainty: a weak tag never matches, a date only exactly.
fn is_strongly(wanted: &str, validators: &Validators) -> bool {
    let date = httpdate::parse_http_date(wanted).ok();
    wanted == validators.etag || (date.is_some() && date == validators.modified)
}

fn parse_range(header: &str, total: u64) -> Option<Part> {
    let (unit, spec) = header.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(total);
        return Some(part(total - length, total));
    }
    let first = number(first)?;
    let end = if last.is_empty() { total } else { number(last)?.saturating_add(1) };
    (last.is_empty() || end > first).then(|| part(first, end.min(total)))
}

fn part(start: u64, end: u64) -> Part {
    match end.checked_sub(start) {
        None | Some(0) => Part::Unsatisfiable,
        Some(length) => Part::Bytes { start, length },
    }
}

/// Digits only: `parse` alone would take a sign. More than a `u64` holds is
/// beyond the end of any file, which the largest number is too.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// An encoding a file may lie ready in, beside the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    pub(crate) fn token(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
        }
    }

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Encoding::Brotli => ".br",
            Encoding::Gzip => ".gz",
        }
    }
}

/// What the client accepts, best first; Brotli before gzip where it has no
/// preference, as the smaller one.
pub(crate) fn encodings(headers: &HeaderMap) -> impl Iterator<Item = Encoding> {
    let accepted = text(headers, &ACCEPT_ENCODING).unwrap_or("");
    let brotli = quality(accepted, &["br"]);
    let gzip = quality(accepted, &["gzip", "x-gzip"]);
    let mut ranked = [(brotli, Encoding::Brotli), (gzip, Encoding::Gzip)];
    if gzip > brotli {
        ranked.reverse();
    }
    ranked.into_iter().filter(|(quality, _)| *quality > 0).map(|(_, it)| it)
}

/// In thousandths; 0 for what is not accepted.
fn quality(accepted: &str, names: &[&str]) -> u16 {
    let mut of_any = 0;
    for item in accepted.split(',') {
        let (token, parameter) = item.split_once(';').unwrap_or((item, "q=1"));
        let value = parameter.trim().strip_prefix("q=").and_then(|it| it.trim().parse().ok());
        let thousandths = (value.unwrap_or(0.0_f32).clamp(0.0, 1.0) * 1000.0) as u16;
        let token = token.trim();
        if names.iter().any(|it| token.eq_ignore_ascii_case(it)) {
            return thousandths;
        }
        if token == "*" {
            of_any = thousandths;
        }
    }
    of_any
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn validators() -> Validators {
        Validators::new("\"abc\"".to_owned(), 1_700_000_000)
    }

    fn range_of(value: &str, total: u64) -> Part {
        range(&headers(RANGE, value), &validators(), total)
    }

    #[test]
    fn one_range_is_understood() {
        let bytes = |start, length| Part::Bytes { start, length };
        assert_eq!(range_of("bytes=0-0", 10), bytes(0, 1));
        assert_eq!(range_of("bytes=2-5", 10), bytes(2, 4));
        assert_eq!(range_of("bytes=7-", 10), bytes(7, 3));
        assert_eq!(range_of("bytes=-3", 10), bytes(7, 3));
        assert_eq!(range_of("bytes=-30", 10), bytes(0, 10));
        assert_eq!(range_of("Bytes=5-99999999999999999999999", 10), bytes(5, 5));
    }

    #[test]
    fn a_range_beyond_the_end_cannot_be_satisfied() {
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(range_of(value, 10), Part::Unsatisfiable, "{value}");
        }
        assert_eq!(range_of("bytes=0-0", 0), Part::Unsatisfiable);
        assert_eq!(range_of("bytes=-5", 0), Part::Unsatisfiable);
    }

    #[test]
    fn other_ranges_are_ignored() {
        for value in ["bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2", "bytes=-", "bytes"] {
            assert_eq!(range_of(value, 10), Part::Whole, "{value}");
        }
    }

    #[test]
    fn if_range_wants_the_same_file() {
        let part = |value: &str| {
            let mut headers = headers(RANGE, "bytes=0-1");
            headers.insert(IF_RANGE, value.parse().unwrap());
            range(&headers, &validators(), 10)
        };
        assert_eq!(part("\"abc\""), Part::Bytes { start: 0, length: 2 });
        assert_eq!(part("Tue, 14 Nov 2023 22:13:20 GMT"), Part::Bytes { start: 0, length: 2 });
        for other in ["W/\"abc\"", "\"abd\"", "Tue, 14 Nov 2023 22:13:21 GMT", "abc"] {
            assert_eq!(part(other), Part::Whole, "{other}");
        }
    }

    #[test]
    fn a_copy_is_recognised_by_tag_before_date() {
        let by_tag = |it| is_unmodified(&headers(IF_NONE_MATCH, it), &validators());
        assert!(by_tag("\"abc\"") && by_tag("\"x\", W/\"abc\"") && by_tag("*"));
        assert!(!by_tag("\"x\"") && !by_tag("abc"));

        let by_date = |it| is_unmodified(&headers(IF_MODIFIED_SINCE, it), &validators());
        assert!(by_date("Tue, 14 Nov 2023 22:13:20 GMT"));
        assert!(!by_date("Tue, 14 Nov 2023 22:13:19 GMT") && !by_date("yesterday"));

        let mut both = headers(IF_NONE_MATCH, "\"x\"");
        both.insert(IF_MODIFIED_SINCE, "Tue, 14 Nov 2023 22:13:20 GMT".parse().unwrap());
        assert!(!is_unmodified(&both, &validators()));
    }

    #[test]
    fn a_normalised_date_validates_nothing() {
        for modified_s in [-1, 0, 1, 315_532_800] {
            let validators = Validators::new("\"abc\"".to_owned(), modified_s);
            let since = headers(IF_MODIFIED_SINCE, "Tue, 14 Nov 2023 22:13:20 GMT");
            assert!(validators.modified.is_none() && !is_unmodified(&since, &validators));
        }
    }

    #[test]
    fn encodings_are_ranked_as_the_client_wants() {
        let of = |it| encodings(&headers(ACCEPT_ENCODING, it)).collect::<Vec<_>>();
        assert_eq!(of("gzip, deflate, br"), [Encoding::Brotli, Encoding::Gzip]);
        assert_eq!(of("GZIP;q=1.0, br;q=0.5"), [Encoding::Gzip, Encoding::Brotli]);
        assert_eq!(of("br;q=0, *"), [Encoding::Gzip]);
        assert_eq!(of("identity, br; q=nonsense"), []);
        assert_eq!(of(""), []);
    }

    proptest! {
        #[test]
        fn a_range_never_leaves_the_file(value in "bytes=[0-9]{0,22}-[0-9]{0,22}", total: u64) {
            if let Part::Bytes { start, length } = range_of(&value, total) {
                prop_assert!(length > 0 && start.checked_add(length).is_some_and(|it| it <= total));
            }
        }
    }
}
