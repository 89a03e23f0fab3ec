//! Passwords: argon2id, a few at a time.
//!
//! Hashing takes tens of milliseconds and 19 MiB on purpose, so it runs beside
//! the event loop and never more than a few at once: a flood of logins queues
//! instead of taking the machine.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use helix_model::{Code, Problem};
use tokio::sync::Semaphore;

use crate::entropy;

/// Hashed at once. Two keep both a login and a flood going on a small machine.
const AT_ONCE_MAX: usize = 2;

/// Shorter ones are guessed; there are no other rules, they make them worse.
pub(crate) const LENGTH_MIN: usize = 10;

/// Longer ones only cost.
pub(crate) const BYTES_MAX: usize = 256;

/// Hashes and verifies.
pub(crate) struct Passwords {
    running: Semaphore,
    /// What is verified against when there is no such user, so that an answer
    /// takes as long as for one that exists.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new() -> Result<Passwords, Problem> {
        let nobody = hash(&entropy::request_id())?;
        Ok(Passwords { running: Semaphore::new(AT_ONCE_MAX), nobody })
    }

    /// What to keep of a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Problem> {
        if password.chars().count() < LENGTH_MIN || password.len() > BYTES_MAX {
            let detail = format!(
                "a password has {LENGTH_MIN} characters or more, and at most {BYTES_MAX} bytes"
            );
            return Err(
                Problem::new(Code::InvalidArgument, detail).field("password", "wrong length")
            );
        }
        self.aside(move || hash(&password)).await?
    }

    /// Whether a password is the one `kept` was made from; takes as long when
    /// nothing is kept.
    pub(crate) async fn verify(
        &self,
        password: String,
        kept: Option<String>,
    ) -> Result<bool, Problem> {
        let exists = kept.is_some();
        let kept = kept.unwrap_or_else(|| self.nobody.clone());
        let fits = self.aside(move || matches(&password, &kept)).await?;
        Ok(fits && exists)
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let gone = || Problem::new(Code::Unavailable, "the server is shutting down");
        let _running = self.running.acquire().await.map_err(|_| gone())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| gone())
    }
}

fn hash(password: &str) -> Result<String, Problem> {
    let unusable = |_| Problem::new(Code::Internal, "the password cannot be hashed");
    let salt = SaltString::encode_b64(&entropy::fresh().to_le_bytes()).map_err(unusable)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(unusable)?;
    Ok(hash.to_string())
}

fn matches(password: &str, kept: &str) -> bool {
    let Ok(kept) = PasswordHash::new(kept) else { return false };
    password.len() <= BYTES_MAX
        && Argon2::default().verify_password(password.as_bytes(), &kept).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_nothing_fits_nobody() {
        let passwords = Passwords::new().unwrap();
        let kept = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(kept.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".to_owned(), Some(kept.clone())).await.unwrap());
        assert!(!passwords.verify("correct house".to_owned(), Some(kept)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned(), None).await.unwrap());
        assert!(passwords.hash("short".to_owned()).await.is_err());
    }
}
