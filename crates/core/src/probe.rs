//! Something that must answer, and what it said.

use crate::PgServer;
use std::path::PathBuf;
use std::time::Duration;

/// What to ask, and how long an answer may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What.
    pub what: Probed,
    /// How long it may take, all in all.
    pub within: Duration,
    /// How long to wait before it is asked: a second try right after the first would meet the same trouble.
    pub after: Duration,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// A TCP connection to `host:port`.
    Tcp(String),
    /// A GET of a URL; a redirect is an answer and is not followed.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// A text that the body must have in its first 64 KiB.
        contains: Option<String>,
    },
    /// `version` and `stats` of a memcached at `host:port`.
    Memcached(String),
    /// One SQL query, in a read-only transaction; its first value as a text.
    Postgres {
        /// The server.
        server: PgServer,
        /// The database; the server's usual one where none is said.
        database: Option<String>,
        /// The role whose rights the query has; that of the session where none is said.
        role: Option<String>,
        /// The query.
        query: String,
    },
    /// When a file was last written.
    FileAge(PathBuf),
    /// Until when a certificate is valid: the first one in a PEM file.
    CertificateFile(PathBuf),
    /// Until when the certificate is valid that `host:port` shows to a client that asks for this name.
    CertificateOf {
        /// Where.
        address: String,
        /// For which name.
        name: String,
    },
}

/// What a probe was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probing {
    /// It answers.
    Answers,
    /// An HTTP status, and whether the text was found that was asked for.
    Http {
        /// The status code.
        status: u16,
        /// Whether the body has the text; `true` where none was asked for.
        contains: bool,
    },
    /// The first value of a query; `None` for NULL or no row.
    Value(Option<String>),
    /// When a file was last written, or until when a certificate is valid, in seconds since 1970.
    Time(i64),
    /// It did not answer, or not well: why.
    Failed(String),
}
