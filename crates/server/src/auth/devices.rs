//! Device codes (RFC 8628): a program without a browser asks for one, a person
//! approves it elsewhere, the program polls until then.
//!
//! Codes are in the sealed table, so that a program may poll at another replica
//! than the one it began at. How fast it polls is counted per replica only.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use helix_log::Sealed;
use helix_model::{Code, Id, Problem, Timestamp, User};
use serde::{Deserialize, Serialize};

use super::unusable;
use crate::token::Token;
use crate::{clock, entropy};

/// What device codes begin with.
const DEVICE_PREFIX: &str = "hx_dc_";

/// How long a person may take.
pub(crate) const LIFE_MS: i64 = 10 * 60 * 1000;

/// How long a program should wait between polls.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Open codes begun at this replica. Anyone may begin one, so it is bounded.
const OPEN_MAX: usize = 1000;

/// Consonants: no words come out of it, and nothing is mistaken for a digit.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const USER_CODE_LENGTH: usize = 8;

/// Longest name a program may give itself.
pub(crate) const CLIENT_BYTES_MAX: usize = 64;

const AAD: &[u8] = b"device";

pub(crate) struct Devices {
    sealed: Arc<Sealed>,
    /// Begun here, the oldest first: what to remove once it has expired.
    open: Mutex<VecDeque<Begun>>,
    polled: Mutex<HashMap<String, Instant>>,
}

struct Begun {
    id: String,
    user_code: String,
    expires_at: Timestamp,
}

/// What a program is told when it begins.
pub(crate) struct Started {
    pub device_code: Token,
    pub user_code: String,
}

/// What is kept of one code.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    id: String,
    pub user_code: String,
    /// What the program says it is.
    pub client: String,
    /// Where it asked from.
    pub source: Option<IpAddr>,
    expires_at: Timestamp,
    verdict: Option<Verdict>,
}

/// What the person said.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Approved(Id<User>),
    Denied,
}

/// What a poll comes to, when it is not a problem.
pub(crate) struct Approved {
    pub user: Id<User>,
    pub client: String,
}

impl Devices {
    pub(crate) fn new(sealed: Arc<Sealed>) -> Devices {
        Devices { sealed, open: Mutex::default(), polled: Mutex::default() }
    }

    /// Begins: a code for the program to poll with and one for the person to type.
    pub(crate) async fn start(
        &self,
        client: String,
        source: Option<IpAddr>,
    ) -> Result<Started, Problem> {
        self.sweep().await?;
        let device_code = Token::fresh_with(DEVICE_PREFIX);
        let user_code = fresh_user_code();
        let id = device_code.hash().model().to_string();
        let expires_at = Timestamp(clock::now().0 + LIFE_MS);
        let asked = Asked { id, user_code, client, source, expires_at, verdict: None };
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= OPEN_MAX {
                return Err(Problem::new(
                    Code::RateLimited,
                    "too many logins are being waited for",
                ));
            }
            let (id, user_code) = (asked.id.clone(), asked.user_code.clone());
            open.push_back(Begun { id, user_code, expires_at });
        }
        self.keep(&asked).await?;
        let put = self.sealed.put(&by_code(&asked.user_code), asked.id.as_bytes(), AAD).await;
        put.map_err(|error| unusable(&error))?;
        Ok(Started { device_code, user_code: asked.user_code })
    }

    /// What has become of a code. Whoever is told that it was approved is the
    /// only one to be told.
    pub(crate) async fn poll(&self, device_code: &str) -> Result<Approved, Problem> {
        let id = Token::from_text(device_code).hash().model().to_string();
        let asked = self.asked(&id).await?.ok_or_else(expired)?;
        match asked.verdict {
            None if self.is_too_fast(&id) => {
                let detail = "it was asked again too soon";
                let mut problem = Problem::new(Code::SlowDown, detail);
                problem.retry_after_seconds = Some(POLL_INTERVAL.as_secs());
                Err(problem)
            }
            None => Err(Problem::new(Code::AuthorizationPending, "nobody has approved it yet")),
            Some(Verdict::Denied) => {
                self.forget(&asked.id, &asked.user_code).await?;
                Err(Problem::new(Code::AccessDenied, "the login was denied"))
            }
            Some(Verdict::Approved(user)) => {
                if self.forget(&asked.id, &asked.user_code).await? {
                    Ok(Approved { user, client: asked.client })
                } else {
                    Err(expired())
                }
            }
        }
    }

    /// What is asked for under the code a person typed, unless it was answered.
    pub(crate) async fn find(&self, typed: &str) -> Result<Option<Asked>, Problem> {
        let Some(user_code) = normal_user_code(typed) else { return Ok(None) };
        let id = self.sealed.get(&by_code(&user_code), AAD).await;
        let Some(id) = id.map_err(|error| unusable(&error))? else { return Ok(None) };
        let id = String::from_utf8_lossy(id.expose()).into_owned();
        let asked = self.asked(&id).await?;
        Ok(asked.filter(|asked| asked.verdict.is_none()))
    }

    /// Notes what the person said.
    pub(crate) async fn answer(&self, asked: Asked, verdict: Verdict) -> Result<(), Problem> {
        self.keep(&Asked { verdict: Some(verdict), ..asked }).await
    }

    async fn asked(&self, id: &str) -> Result<Option<Asked>, Problem> {
        let kept = self.sealed.get(&by_id(id), AAD).await.map_err(|error| unusable(&error))?;
        let asked = kept.and_then(|plain| serde_json::from_slice::<Asked>(plain.expose()).ok());
        Ok(asked.filter(|asked| clock::now() < asked.expires_at))
    }

    async fn keep(&self, asked: &Asked) -> Result<(), Problem> {
        let plain = serde_json::to_vec(asked).unwrap_or_default();
        let put = self.sealed.put(&by_id(&asked.id), &plain, AAD).await;
        put.map_err(|error| unusable(&error))
    }

    /// Whether this call was the one that removed it.
    async fn forget(&self, id: &str, user_code: &str) -> Result<bool, Problem> {
        let deleted = self.sealed.delete(&by_code(user_code)).await;
        deleted.map_err(|error| unusable(&error))?;
        self.sealed.delete(&by_id(id)).await.map_err(|error| unusable(&error))
    }

    fn is_too_fast(&self, id: &str) -> bool {
        let mut polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if polled.len() >= OPEN_MAX {
            polled.retain(|_, at| now.duration_since(*at) < POLL_INTERVAL);
        }
        let before = polled.insert(id.to_owned(), now);
        // Networks and schedulers are not exact.
        before.is_some_and(|at| now.duration_since(at) < POLL_INTERVAL / 2)
    }

    /// Removes what was begun here and has expired.
    async fn sweep(&self) -> Result<(), Problem> {
        let now = clock::now();
        let expired: Vec<Begun> = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.iter().take_while(|begun| begun.expires_at <= now).count();
            open.drain(..count).collect()
        };
        for begun in expired {
            self.forget(&begun.id, &begun.user_code).await?;
        }
        Ok(())
    }
}

fn expired() -> Problem {
    Problem::new(Code::ExpiredToken, "the device code is not known, or not any more")
}

fn by_id(id: &str) -> String {
    format!("device/{id}")
}

fn by_code(user_code: &str) -> String {
    format!("device-code/{user_code}")
}

fn fresh_user_code() -> String {
    let mut entropy = entropy::fresh();
    let mut letter = || {
        let index = (entropy % LETTERS.len() as u128) as usize;
        entropy /= LETTERS.len() as u128;
        char::from(LETTERS[index])
    };
    (0..USER_CODE_LENGTH).map(|_| letter()).collect()
}

/// The code as it was given out, from how a person types it.
pub(crate) fn normal_user_code(typed: &str) -> Option<String> {
    if typed.len() > 4 * USER_CODE_LENGTH {
        return None;
    }
    let plain = typed.chars().filter(|letter| !matches!(letter, '-' | ' '));
    let code: String = plain.map(|letter| letter.to_ascii_uppercase()).collect();
    let is_one = code.len() == USER_CODE_LENGTH && code.bytes().all(|it| LETTERS.contains(&it));
    is_one.then_some(code)
}

/// The code as people read it best.
pub(crate) fn shown_user_code(code: &str) -> String {
    let (front, back) = code.split_at(code.len() / 2);
    format!("{front}-{back}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_code_is_understood_however_it_is_written() {
        let code = fresh_user_code();
        assert_eq!(normal_user_code(&shown_user_code(&code)), Some(code.clone()));
        assert_eq!(normal_user_code(&code.to_lowercase()), Some(code));
        for bad in ["", "AAAA-BBBB", "BCDF-GHJ", "BCDF-GHJKL", &"B".repeat(500)] {
            assert_eq!(normal_user_code(bad), None, "{bad}");
        }
    }
}
