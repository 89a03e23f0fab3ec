//! What is not shown of headers: what lets whoever sees it in.

use http::HeaderMap;
use serde_json::{Value, json};

/// Parts of the names of headers that carry what lets somebody in.
const SECRET_NAMES: [&str; 9] = [
    "authorization",
    "cookie",
    "api-key",
    "apikey",
    "access-key",
    "token",
    "secret",
    "password",
    "x-auth",
];

/// Whether the value of a header of this name is for the two ends alone.
fn is_secret(name: &str) -> bool {
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// The headers as they may be shown, in their order.
pub(super) fn shown(headers: &HeaderMap) -> Value {
    let shown = headers.iter().map(|(name, value)| match is_secret(name.as_str()) {
        true => json!({
            "name": name.as_str(),
            "value": format!("[redacted, {} bytes]", value.len()),
            "redacted": true,
        }),
        false => json!({
            "name": name.as_str(),
            "value": String::from_utf8_lossy(value.as_bytes()),
        }),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_somebody_in_is_not_shown_and_the_rest_is() {
        let hidden = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "x-goog-api-key",
            "apikey",
            "x-csrf-token",
            "x-auth-key",
            "x-client-secret",
        ];
        for name in hidden {
            let mut headers = HeaderMap::new();
            headers.append(name, "hunter2".parse().unwrap());
            let text = shown(&headers).to_string();
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("[redacted, 7 bytes]"), "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append("x-request-id", "7".parse().unwrap());
        headers.append("www-authenticate", "Basic realm=\"x\"".parse().unwrap());
        let all = json!([
            {"name": "x-request-id", "value": "7"},
            {"name": "www-authenticate", "value": "Basic realm=\"x\""},
        ]);
        assert_eq!(shown(&headers), all);
    }
}
