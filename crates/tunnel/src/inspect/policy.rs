//! Who may come in, decided on this machine.

use std::net::IpAddr;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Response, StatusCode};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

/// What a visitor is answered in place of the program's answer.
pub type Instead = Box<Response<Bytes>>;

/// Looks at a request before the program gets it.
///
/// It may change the head, to take out what was for it alone, and it may answer itself:
/// with a refusal, or as one that sends visitors elsewhere to log in would.
#[async_trait]
pub trait Policy: Send + Sync + 'static {
    /// Lets a request through, or answers it.
    async fn admits(&self, request: &mut Parts, client: Option<IpAddr>) -> Result<(), Instead>;
}

/// Lets in who comes from one of these networks, by what the edge says of where.
#[derive(Clone, Debug)]
pub struct AllowList {
    pub networks: Vec<IpNet>,
}

#[async_trait]
impl Policy for AllowList {
    async fn admits(&self, _: &mut Parts, client: Option<IpAddr>) -> Result<(), Instead> {
        // An edge with a dual-stack socket may write an IPv4 address as an IPv6 one.
        let client = client.map(|client| client.to_canonical());
        match client.is_some_and(|client| self.networks.iter().any(|it| it.contains(&client))) {
            true => Ok(()),
            false => Err(refusal(
                StatusCode::FORBIDDEN,
                "tunnel_not_allowed",
                "this tunnel is not open to the network you come from",
            )),
        }
    }
}

/// Lets in who knows the user and the password (RFC 7617). The program is not shown them.
pub struct BasicAuth {
    /// Of `USER:PASSWORD`.
    digest: [u8; 32],
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").finish_non_exhaustive()
    }
}

/// Why something is not a user and a password. Does not say what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BasicAuthError {
    #[error("it is not USER:PASSWORD")]
    NoColon,
    #[error("the user or the password is empty")]
    Empty,
    #[error("it has a line break or another control character")]
    Control,
}

impl BasicAuth {
    /// Of `USER:PASSWORD`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn new(text: &str) -> Result<BasicAuth, BasicAuthError> {
        let (user, password) = text.split_once(':').ok_or(BasicAuthError::NoColon)?;
        if user.is_empty() || password.is_empty() {
            return Err(BasicAuthError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(BasicAuthError::Control);
        }
        Ok(BasicAuth { digest: Sha256::digest(text).into() })
    }

    /// Takes as long for the wrong ones as for the right ones: digests are compared, and
    /// to their end.
    fn knows(&self, header: &HeaderValue) -> bool {
        let Ok(text) = header.to_str() else { return false };
        let Some((scheme, encoded)) = text.split_once(' ') else { return false };
        let Ok(decoded) = STANDARD.decode(encoded.trim()) else { return false };
        let given: [u8; 32] = Sha256::digest(decoded).into();
        let difference = given.iter().zip(&self.digest).fold(0, |all, (a, b)| all | (a ^ b));
        scheme.eq_ignore_ascii_case("basic") && std::hint::black_box(difference) == 0
    }
}

#[async_trait]
impl Policy for BasicAuth {
    async fn admits(&self, request: &mut Parts, _: Option<IpAddr>) -> Result<(), Instead> {
        let mut given = request.headers.get_all(AUTHORIZATION).iter();
        // With two it would be open to whom the program listens.
        if let (Some(header), None) = (given.next(), given.next())
            && self.knows(header)
        {
            request.headers.remove(AUTHORIZATION);
            return Ok(());
        }
        let why = "this tunnel asks for a user and a password";
        let mut refusal = refusal(StatusCode::UNAUTHORIZED, "tunnel_login_required", why);
        let challenge = HeaderValue::from_static("Basic realm=\"tunnel\", charset=\"UTF-8\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        Err(refusal)
    }
}

/// An answer of the agent's own, with its reason for programs and a sentence for people.
pub(super) fn refusal(status: StatusCode, reason: &'static str, why: &str) -> Instead {
    let mut answer = Response::new(Bytes::from(format!("{why}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-helix-reason", HeaderValue::from_static(reason));
    Box::new(answer)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    async fn login(policy: &BasicAuth, headers: &[&str]) -> Result<Parts, u16> {
        let mut parts = Request::new(()).into_parts().0;
        for header in headers {
            parts.headers.append(AUTHORIZATION, header.parse().unwrap());
        }
        let verdict = policy.admits(&mut parts, None).await;
        verdict.map(|()| parts).map_err(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn who_knows_the_password_comes_in_and_the_program_does_not_see_it() {
        let policy = BasicAuth::new("ada:love:lace").unwrap();
        let right = format!("basic {}", STANDARD.encode("ada:love:lace"));
        let parts = login(&policy, &[&right]).await.unwrap();
        assert!(!parts.headers.contains_key(AUTHORIZATION));

        let wrong = format!("Basic {}", STANDARD.encode("ada:lovelace"));
        let bearer = right.replace("basic", "Bearer");
        let (wrong, right) = (wrong.as_str(), right.as_str());
        for given in [&[][..], &[wrong], &[&bearer], &["Basic"], &["Basic ?"], &[right, right]] {
            assert_eq!(login(&policy, given).await.err(), Some(401), "{given:?}");
        }
    }

    #[test]
    fn what_is_no_user_and_password_is_refused_without_repeating_it() {
        assert_eq!(BasicAuth::new("ada").unwrap_err(), BasicAuthError::NoColon);
        assert_eq!(BasicAuth::new(":x").unwrap_err(), BasicAuthError::Empty);
        assert_eq!(BasicAuth::new("ada:").unwrap_err(), BasicAuthError::Empty);
        assert_eq!(BasicAuth::new("ada:x\n").unwrap_err(), BasicAuthError::Control);
        assert!(!format!("{:?}", BasicAuth::new("ada:hunter2").unwrap()).contains("hunter2"));
    }

    #[tokio::test]
    async fn only_networks_of_the_list_come_in_and_nobody_from_nowhere() {
        let networks = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let policy = AllowList { networks };
        for (client, comes_in) in [
            (Some("192.0.2.7"), true),
            (Some("::ffff:192.0.2.7"), true),
            (Some("2001:db8::7"), true),
            (Some("198.51.100.1"), false),
            (None, false),
        ] {
            let client = client.map(|it: &str| it.parse().unwrap());
            let mut parts = Request::new(()).into_parts().0;
            let verdict = policy.admits(&mut parts, client).await;
            assert_eq!(verdict.is_ok(), comes_in, "{client:?}");
        }
    }
}
