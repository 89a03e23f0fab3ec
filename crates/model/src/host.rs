//! Host names: which texts are ones, and what a wildcard stands for.
//!
//! Always in lower case, without a final dot and without a port. A wildcard stands for
//! all names one level below, as in certificates (RFC 6125 §6.4.3).

/// What DNS allows a name.
pub const LENGTH_MAX: usize = 253;

/// What a wildcard begins with.
const WILDCARD: &str = "*.";

/// Whether a text is an exact ASCII host name: labels of 1 to 63 (RFC 1123 §2.1), 253
/// in all.
pub fn is_exact(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= LENGTH_MAX && text.split('.').all(label)
}

/// The same, or a wildcard before one.
pub fn is_host(text: &str) -> bool {
    text.len() <= LENGTH_MAX && is_exact(exact_part(text))
}

/// Whether it stands for all names one level below another.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with(WILDCARD)
}

/// A host without what makes it a wildcard.
pub fn exact_part(host: &str) -> &str {
    host.strip_prefix(WILDCARD).unwrap_or(host)
}

/// The wildcard that stands for an exact host.
pub fn wildcard_of(host: &str) -> Option<String> {
    host.split_once('.').map(|(_, above)| format!("{WILDCARD}{above}"))
}

/// Whether an exact host is somewhere below another, and not the other itself.
pub fn is_below(host: &str, above: &str) -> bool {
    host.strip_suffix(above).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
}

/// The host itself, then each that it is below, the longest first.
pub fn upwards(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(exact_part(host)), |host| Some(host.split_once('.')?.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        for good in ["a", "a.example", "xn--bcher-kva.example", "1.2"] {
            assert!(is_exact(good) && is_host(&format!("*.{good}")), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "A.example", "a_b", "-a.b", "a-.b", "*.*.a", "a.*.b", "*"]
        {
            assert!(!is_host(bad), "{bad}");
        }
        assert!(!is_exact("*.a"));
        let long = format!("{}.a", "a".repeat(63));
        assert!(is_exact(&long) && !is_exact(&format!("a{long}")));
        assert!(!is_exact(&vec!["a"; 128].join(".")));
    }

    #[test]
    fn a_name_is_below_another_by_whole_labels() {
        assert!(is_below("www.example.com", "example.com"));
        assert!(is_below("a.b.example.com", "example.com"));
        assert!(!is_below("example.com", "example.com"));
        assert!(!is_below("notexample.com", "example.com"));
        assert_eq!(upwards("*.a.b.c").collect::<Vec<_>>(), ["a.b.c", "b.c", "c"]);
        assert_eq!(wildcard_of("www.example.com").as_deref(), Some("*.example.com"));
    }
}
