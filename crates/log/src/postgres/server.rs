//! The way to the database: addresses, connections, trying again.
//!
//! Start at [`Server::run`]. A statement that may be repeated goes through it
//! and outlives a restart of PostgreSQL; an append may not be repeated and has
//! its own connection, see [`super::writer`].

use std::io;
use std::str::FromStr;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::Instant;

use super::failure::{is_connection_lost, is_passing, storage_error};
use super::schema::PostgresSchema;
use crate::error::LogError;
use crate::place::Place;

const POOL_IDLE: Duration = Duration::from_secs(60);

/// How long a call waits for a server that is restarting before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// For the statements of one call; a large snapshot over a slow line takes long.
const STATEMENTS_TIMEOUT: Duration = Duration::from_secs(60);

const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// A connection unused for longer is asked whether it still is one.
pub(super) const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// What each connection is set to, whatever the server's defaults. A weaker
/// `synchronous_commit` would acknowledge what a crash can lose; a stronger one
/// is the operator's choice. A client that vanished must not hold the head's
/// lock for longer than other replicas are willing to wait for it.
const SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off';
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET idle_in_transaction_session_timeout = '10s';
    SET lock_timeout = '10s';
    SET client_min_messages = warning";

/// A PostgreSQL database and the connections to it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) place: Place,
    pub(super) schema: PostgresSchema,
    options: PgConnectOptions,
    pool: PgPool,
}

impl Server {
    /// Opens no connection yet.
    pub(super) fn new(url: &str, schema: PostgresSchema) -> Result<Server, LogError> {
        let parsed = PgConnectOptions::from_str(url);
        let options = parsed.map_err(|source| LogError::Unreachable {
            // Not the text itself, which may hold a password.
            place: Place::Database("the PostgreSQL database at the given URL".to_owned()),
            source: source.into(),
        })?;
        let options = options.application_name("helix").disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(schema.connections)
            .idle_timeout(POOL_IDLE)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| Box::pin(prepare(connection, schema)))
            .connect_lazy_with(options.clone());
        Ok(Server { place: place(&options), schema, options, pool })
    }

    /// A connection of the caller's own, waiting for a server that is starting.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut attempts = Attempts::new();
        loop {
            let connecting = async {
                let mut connection = self.options.connect().await?;
                prepare(&mut connection, self.schema).await?;
                Ok(connection)
            };
            match tokio::time::timeout_at(attempts.deadline, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if is_passing(&error) && attempts.wait().await => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(sqlx::Error::PoolTimedOut),
            }
        }
    }

    /// Runs `statements`, again if the connection was lost: they must come to
    /// the same when run twice.
    pub(super) async fn run<T>(
        &self,
        action: &'static str,
        statements: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, LogError> {
        let mut attempts = Attempts::new();
        loop {
            let error = match self.pool.acquire().await {
                Ok(mut connection) => match in_time(statements(&mut connection)).await {
                    Ok(result) => return Ok(result),
                    Err(error) if is_connection_lost(&error) => {
                        drop(connection.detach());
                        error
                    }
                    Err(error) => return Err(storage_error(&self.place, action, error)),
                },
                Err(error) if is_passing(&error) => error,
                Err(source) => return Err(self.unreachable(source)),
            };
            if !attempts.wait().await {
                return Err(self.unreachable(error));
            }
        }
    }

    /// A pool of one, for the listener, which keeps its connection.
    pub(super) fn listener_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(self.options.clone())
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) fn unreachable(&self, source: sqlx::Error) -> LogError {
        LogError::Unreachable { place: self.place.clone(), source: source.into() }
    }
}

/// A network that swallows packets counts as a lost connection in the end.
async fn in_time<T>(statements: BoxFuture<'_, Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let done = tokio::time::timeout(STATEMENTS_TIMEOUT, statements).await;
    done.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

/// Waits a little longer each time, until patience is at its end.
struct Attempts {
    deadline: Instant,
    pause: Duration,
}

impl Attempts {
    fn new() -> Attempts {
        Attempts { deadline: Instant::now() + PATIENCE, pause: BACK_OFF_MIN }
    }

    /// `false` without waiting when it is time to give up.
    async fn wait(&mut self) -> bool {
        let until = Instant::now() + self.pause;
        if until >= self.deadline {
            return false;
        }
        tokio::time::sleep_until(until).await;
        self.pause = (self.pause * 2).min(BACK_OFF_MAX);
        true
    }
}

async fn prepare(connection: &mut PgConnection, schema: PostgresSchema) -> Result<(), sqlx::Error> {
    let session = format!("{SESSION}; SET search_path = {}", schema.name());
    Executor::execute(connection, session.as_str()).await.map(drop)
}

/// As errors name it: never the user's password, nor the rest of the URL.
fn place(options: &PgConnectOptions) -> Place {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    let socket = options.get_socket().map(|it| it.display().to_string());
    let host = socket.unwrap_or_else(|| options.get_host().to_owned());
    Place::Database(format!("PostgreSQL database {database} on {host}:{}", options.get_port()))
}
