//! What is kept of each user in the sealed table: the hash of the password, the
//! hash of a setup code while there is one, and an address to reach them.

use std::sync::Arc;

use helix_log::Sealed;
use helix_model::{Id, Problem, Timestamp, User};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::password::Passwords;
use super::unusable;
use crate::clock;
use crate::token::Token;

/// What setup codes begin with.
const SETUP_PREFIX: &str = "hx_su_";

/// How long a setup code may be used.
pub(crate) const SETUP_LIFE_MS: i64 = 24 * 60 * 60 * 1000;

/// Accounts, of whichever replica asks.
pub(crate) struct Accounts {
    sealed: Arc<Sealed>,
    passwords: Passwords,
}

#[derive(Serialize, Deserialize)]
struct KeptPassword {
    hash: String,
}

#[derive(Serialize, Deserialize)]
struct KeptSetup {
    hash: helix_model::token::Hash,
    expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct KeptEmail {
    email: String,
}

impl Accounts {
    pub(crate) fn new(sealed: Arc<Sealed>) -> Result<Accounts, Problem> {
        Ok(Accounts { sealed, passwords: Passwords::new()? })
    }

    /// Whether this is the user's password. `None` is nobody, and takes as long.
    pub(crate) async fn fits(
        &self,
        user: Option<Id<User>>,
        password: String,
    ) -> Result<bool, Problem> {
        let kept = match user {
            Some(user) => self.get::<KeptPassword>(user, "password").await?,
            None => None,
        };
        self.passwords.verify(password, kept.map(|kept| kept.hash)).await
    }

    /// Sets the password, whatever it was; a setup code is used up by it.
    pub(crate) async fn set_password(
        &self,
        user: Id<User>,
        password: String,
    ) -> Result<(), Problem> {
        let hash = self.passwords.hash(password).await?;
        self.put(user, "password", &KeptPassword { hash }).await?;
        self.delete(user, "setup").await
    }

    /// A code with which the user may choose a password, once. An earlier one
    /// is void.
    pub(crate) async fn new_setup_code(&self, user: Id<User>) -> Result<Token, Problem> {
        let code = Token::fresh_with(SETUP_PREFIX);
        let expires_at = Timestamp(clock::now().0 + SETUP_LIFE_MS);
        self.put(user, "setup", &KeptSetup { hash: code.hash().model(), expires_at }).await?;
        Ok(code)
    }

    /// Whether this is the user's setup code, still.
    pub(crate) async fn is_setup_code(&self, user: Id<User>, code: &str) -> Result<bool, Problem> {
        let kept = self.get::<KeptSetup>(user, "setup").await?;
        let sent = Token::from_text(code).hash().model();
        Ok(kept.is_some_and(|kept| kept.hash == sent && clock::now() < kept.expires_at))
    }

    /// Keeps an address for the user.
    pub(crate) async fn set_email(&self, user: Id<User>, email: String) -> Result<(), Problem> {
        self.put(user, "email", &KeptEmail { email }).await
    }

    /// Removes all that is kept of a user.
    pub(crate) async fn forget(&self, user: Id<User>) -> Result<(), Problem> {
        for what in ["password", "setup", "email"] {
            self.delete(user, what).await?;
        }
        Ok(())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        user: Id<User>,
        what: &str,
    ) -> Result<Option<T>, Problem> {
        let kept = self.sealed.get(&record(user, what), what.as_bytes()).await;
        let kept = kept.map_err(|error| unusable(&error))?;
        // What another version wrote is as good as nothing: it proves nothing.
        Ok(kept.and_then(|plain| serde_json::from_slice(plain.expose()).ok()))
    }

    async fn put(&self, user: Id<User>, what: &str, kept: &impl Serialize) -> Result<(), Problem> {
        let plain = serde_json::to_vec(kept).unwrap_or_default();
        let put = self.sealed.put(&record(user, what), &plain, what.as_bytes()).await;
        put.map_err(|error| unusable(&error))
    }

    async fn delete(&self, user: Id<User>, what: &str) -> Result<(), Problem> {
        let deleted = self.sealed.delete(&record(user, what)).await;
        deleted.map(|_| ()).map_err(|error| unusable(&error))
    }
}

fn record(user: Id<User>, what: &str) -> String {
    format!("user/{user}/{what}")
}
