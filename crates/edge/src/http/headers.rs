//! What a proxy changes in headers (RFC 9110 §7.6, RFC 7239).

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use ulid::Ulid;

use super::front::Front;
use super::h1;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Concern one connection only, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// A request id longer than this is not one anybody wants in a log line.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// How large the head of a request is as HTTP/1 has it, near enough: with the spaces and line
/// ends around what is sent.
pub(crate) fn size<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(1, |path| path.as_str().len());
    let first = request.method().as_str().len() + target + " HTTP/1.1\r\n".len() + 1;
    let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    first + request.headers().iter().map(header).sum::<usize>()
}

/// Whether whoever asks can take trailers (RFC 9110 §10.1.4).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    h1::lists(headers, &TE, "trailers")
}

/// Removes what concerns only the connection the message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client must not be able to take away what the edge itself relies on.
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH))
        .collect();
    // With both, the length was for the connection's framing and is not true.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The protocol a message asks to change to, if it asks properly. Not `h2c`: that
/// is HTTP still (and withdrawn by RFC 9113), and would pass the edge unrouted.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = h1::lists(headers, &CONNECTION, "upgrade");
    let protocol = headers.get(UPGRADE).filter(|_| asks)?;
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Asks for a change of protocol, or agrees to one, on this hop.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Rewrites a client's request into the one a backend gets; returns its id.
///
/// Whatever a client says about where the request came from is dropped: there is
/// no proxy before this one whose word could be trusted.
pub(crate) fn prepare<B>(
    request: &mut Request<B>,
    host: HeaderValue,
    front: &Front,
) -> HeaderValue {
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        let root = || PathAndQuery::from_static("/");
        let path = request.uri().path_and_query().cloned().unwrap_or_else(root);
        *request.uri_mut() = Uri::from(path);
    }
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    // The edge itself answers expectations, by reading the body.
    headers.remove(EXPECT);
    headers.remove(X_FORWARDED_PORT);
    headers.insert(X_FORWARDED_FOR, front.forwarded_for());
    headers.insert(FORWARDED, front.forwarded(&host));
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(front.scheme()));
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(HOST, host);
    request_id(headers)
}

/// HTTP/2 clients may send a cookie header in pieces, which backends that speak HTTP/1
/// need not understand (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else { return };
    let all: Vec<&[u8]> = [first, second].into_iter().chain(pieces).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let mut sent = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (sent.next(), sent.next())
        && is_request_id(id)
    {
        return id.clone();
    }
    let mut buffer = [0; ulid::ULID_LEN];
    let fresh = HeaderValue::from_str(Ulid::new().array_to_str(&mut buffer))
        .unwrap_or_else(|_| HeaderValue::from_static("none"));
    headers.insert(X_REQUEST_ID, fresh.clone());
    fresh
}

fn is_request_id(value: &HeaderValue) -> bool {
    let is_plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=REQUEST_ID_LENGTH_MAX).contains(&value.len()) && value.as_bytes().iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(name: Option<&str>) -> Front {
        let secure = name.map(|name| super::super::front::Secure { name: name.to_owned() });
        Front::new("[2001:db8::7]:5000".parse().unwrap(), secure)
    }

    fn prepared(request: http::request::Builder) -> Request<()> {
        let mut request = request.body(()).unwrap();
        let host = HeaderValue::from_static("a.example:8080");
        prepare(&mut request, host, &front(None));
        request
    }

    #[test]
    fn what_concerns_one_connection_stays_on_it() {
        let request = prepared(
            Request::get("/")
                .header("connection", "keep-alive, X-Secret, host")
                .header("x-secret", "1")
                .header("te", "trailers")
                .header("keep-alive", "timeout=5")
                .header("upgrade", "h2c")
                .header("accept", "*/*"),
        );
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "accept",
            "forwarded",
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn claims_about_the_origin_of_a_request_are_replaced() {
        let request = prepared(
            Request::get("http://a.example:8080/x?y")
                .header("x-forwarded-for", "10.0.0.1")
                .header("forwarded", "for=10.0.0.1"),
        );
        assert_eq!(request.uri(), "/x?y");
        assert_eq!(request.headers()["x-forwarded-for"], "2001:db8::7");
        let forwarded = "for=\"[2001:db8::7]\";host=\"a.example:8080\";proto=http";
        assert_eq!(request.headers()[FORWARDED], forwarded);
        assert_eq!(request.headers()[HOST], "a.example:8080");
    }

    #[test]
    fn an_encrypted_connection_is_told_and_pieces_of_cookies_are_joined() {
        let request = Request::get("https://a.example/")
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2; c=3")
            .header("x-forwarded-proto", "http");
        let mut request = request.body(()).unwrap();
        let host = HeaderValue::from_static("a.example");
        prepare(&mut request, host, &front(Some("a.example")));
        assert_eq!(request.headers()["x-forwarded-proto"], "https");
        assert!(request.headers()[FORWARDED].to_str().unwrap().ends_with("proto=https"));
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
        assert_eq!(request.version(), Version::HTTP_11);
    }

    #[test]
    fn a_request_id_is_kept_when_it_is_one() {
        let kept = prepared(Request::get("/").header("x-request-id", "abc-1"));
        assert_eq!(kept.headers()[X_REQUEST_ID], "abc-1");
        let replaced = prepared(Request::get("/").header("x-request-id", "a b\"c"));
        assert_eq!(replaced.headers()[X_REQUEST_ID].len(), 26);
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let request = Request::get("/").header("upgrade", "websocket").body(()).unwrap();
        assert_eq!(upgrade_of(request.headers()), None);
        let request = Request::get("/")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket");
        let request = request.body(()).unwrap();
        assert_eq!(upgrade_of(request.headers()).unwrap(), "websocket");
        let request = Request::get("/").header("connection", "upgrade").header("upgrade", "h2c");
        assert_eq!(upgrade_of(request.body(()).unwrap().headers()), None);
    }
}
