//! Keeps pages of other origins away from the inspector: a browser on this machine would
//! carry their requests here.
//!
//! A page whose name was made to resolve to 127.0.0.1 (DNS rebinding) sends its own name
//! as `Host`. One that posts a form or loads a script from here (CSRF, XSSI) has a browser
//! that says so, in `Origin` or in `Sec-Fetch-Site`. Programs say neither and are let in:
//! what runs on this machine as a program can read this traffic anyway.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error("the inspector is reached as 127.0.0.1, [::1] or localhost only")]
    Host,
    #[error("a page of another origin may not use the inspector")]
    Origin,
}

/// Lets in who is of this machine.
pub(super) fn check(parts: &Parts) -> Result<(), Foreign> {
    let host = only(&parts.headers, HOST.as_str()).ok_or(Foreign::Host)?;
    let authority: Authority = host.parse().map_err(|_| Foreign::Host)?;
    if host.contains('@') || !is_loopback(authority.host()) {
        return Err(Foreign::Host);
    }
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    if let Some(origin) = parts.headers.get(ORIGIN)
        && origin.as_bytes() != format!("http://{host}").as_bytes()
    {
        return Err(Foreign::Origin);
    }
    // Other ports of `localhost` are the same site, but not the same origin.
    let site = parts.headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    let is_own = matches!(site, None | Some(b"same-origin" | b"none"));
    let is_link = is_read && !parts.uri.path().starts_with("/api/");
    match is_own || is_link {
        true => Ok(()),
        false => Err(Foreign::Origin),
    }
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn checked(method: &str, path: &str, headers: &[(&str, &str)]) -> Result<(), Foreign> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:4040", "localhost:4040", "LOCALHOST", "[::1]:4040", "127.9.9.9"] {
            assert_eq!(checked("GET", "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:4040",
            "localhost.evil.example:4040",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "0.0.0.0:4040",
            "192.168.1.2:4040",
            "",
        ] {
            assert_eq!(checked("GET", "/", &[("host", host)]), Err(Foreign::Host), "{host}");
        }
        assert_eq!(checked("GET", "/", &[]), Err(Foreign::Host));
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(checked("GET", "/", &two), Err(Foreign::Host));
    }

    #[test]
    fn a_page_of_another_origin_is_not_answered() {
        let (host, own) = (("host", "localhost:4040"), ("origin", "http://localhost:4040"));
        let api = "/api/requests";
        assert_eq!(checked("POST", "/api/requests/1/replay", &[host]), Ok(()));
        assert_eq!(checked("POST", "/api/requests/1/replay", &[host, own]), Ok(()));
        assert_eq!(checked("GET", api, &[host, ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(checked("GET", api, &[host, ("sec-fetch-site", "none")]), Ok(()));
        // Following a link to the page.
        assert_eq!(checked("GET", "/", &[host, ("sec-fetch-site", "cross-site")]), Ok(()));
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:3000"),
            ("origin", "http://127.0.0.1:4040"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            for (method, path) in [("POST", "/"), ("POST", api), ("GET", api)] {
                let outcome = checked(method, path, &[host, foreign]);
                assert_eq!(outcome, Err(Foreign::Origin), "{foreign:?}");
            }
        }
    }
}
