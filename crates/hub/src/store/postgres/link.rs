//! One connection, asked from a plain thread: it has a small runtime of its own and runs only while somebody waits
//! for an answer. Everything has a deadline, here and at the server.

use super::address::{Address, Tls};
use super::tls;
use crate::store::{Result, StoreError};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long it may take until the server lets us in.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take. The server gives up before (`SETTINGS`), so that this one is about the network.
const ANSWER: Duration = Duration::from_secs(20);
/// What every session begins with. A schema of another's making is never in the path.
const SETTINGS: &str = "SET statement_timeout = '15s'; SET lock_timeout = '5s'; \
                        SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = 'warning'";

/// A connection.
pub(super) struct Link {
    /// Taken out only when the link is dropped.
    runtime: Option<Runtime>,
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    place: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A runtime that is merely dropped waits for its threads, which is forbidden where requests are served.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server said so, or the connection broke.
    Sql(Error),
    /// Nothing came.
    Silence,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// Whether the database is away, and not merely unwilling.
    fn away(&self) -> bool {
        let Self::Sql(error) = self else { return true };
        let Some(code) = error.code() else { return true };
        // Class 08 is about connections, 57P about a server that starts or stops; 53300: too many clients;
        // 25006: it has become a standby.
        code.code().starts_with("08")
            || code.code().starts_with("57P")
            || matches!(code.code(), "53300" | "25006")
    }

    /// Whether another transaction was in the way, so that a second try may do.
    pub(super) fn contended(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        matches!(error.code(), Some(&(SqlState::T_R_DEADLOCK_DETECTED | SqlState::T_R_SERIALIZATION_FAILURE)))
    }

    fn source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Sql(error) => Box::new(error),
            Self::Silence => "it does not answer".into(),
        }
    }

    pub(super) fn told(self, doing: &'static str, place: &str) -> StoreError {
        if self.away() {
            StoreError::Away { doing, place: place.to_owned(), source: self.source() }
        } else {
            StoreError::Sql { doing, source: self.source() }
        }
    }
}

impl Link {
    /// Connects; `extra` is set for the session.
    pub(super) fn open(address: &Address, extra: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|why| StoreError::Open { path: address.place(), source: Box::new(why) })?;
        let entered = runtime.block_on(async {
            let entering = async {
                let client = enter(address).await?;
                client.batch_execute(&format!("{SETTINGS}; {extra}")).await?;
                Ok(client)
            };
            match tokio::time::timeout(CONNECT, entering).await {
                Ok(entered) => entered,
                Err(_) => Err(Refusal::Trouble(Trouble::Silence)),
            }
        });
        match entered {
            Ok(client) => Ok(Self {
                runtime: Some(runtime),
                client,
                statements: Mutex::default(),
                place: address.place(),
            }),
            Err(why) => {
                runtime.shutdown_background();
                Err(why.told(address))
            }
        }
    }

    /// Whether the connection is known to be gone.
    pub(super) fn broken(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a question to its answer.
    pub(super) fn ask<'a, T, F>(
        &'a self,
        question: impl FnOnce(Asker<'a>) -> F,
    ) -> std::result::Result<T, Trouble>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let asker = Asker { client: &self.client, statements: &self.statements };
        let Some(runtime) = &self.runtime else { return Err(Trouble::Silence) };
        runtime.block_on(async {
            match tokio::time::timeout(ANSWER, question(asker)).await {
                Ok(answer) => answer.map_err(Trouble::Sql),
                Err(_) => Err(Trouble::Silence),
            }
        })
    }

    /// The same, with its error told.
    pub(super) fn tell<'a, T, F>(
        &'a self,
        doing: &'static str,
        question: impl FnOnce(Asker<'a>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        self.ask(question).map_err(|why| why.told(doing, &self.place))
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

/// What a question may use.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) client: &'a Client,
    statements: &'a Mutex<HashMap<&'static str, Statement>>,
}

impl Asker<'_> {
    /// The prepared form of `text`; prepared once for each connection.
    pub(super) async fn prepared(&self, text: &'static str) -> std::result::Result<Statement, Error> {
        let known = self.lock().get(text).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await?;
        self.lock().insert(text, statement.clone());
        Ok(statement)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.statements.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Why we were not let in.
enum Refusal {
    Trouble(Trouble),
    Tls(StoreError),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Trouble(Trouble::Sql(error))
    }
}

impl Refusal {
    fn told(self, address: &Address) -> StoreError {
        match self {
            Self::Trouble(trouble) => trouble.told("connecting", &address.place()),
            Self::Tls(why) => why,
        }
    }
}

async fn enter(address: &Address) -> std::result::Result<Client, Refusal> {
    let config = address.config();
    if address.tls == Tls::Off {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        return Ok(client);
    }
    let rustls = tls::config(address).map_err(Refusal::Tls)?;
    let (client, connection) = config.connect(MakeRustlsConnect::new(rustls)).await?;
    tokio::spawn(connection);
    Ok(client)
}
