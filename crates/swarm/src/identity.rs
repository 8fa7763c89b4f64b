//! Keys and certificates of simulated agents, in a folder: who was let in once is known at the next run.
//!
//! They are read when a connection is opened and kept nowhere, so that a hundred thousand of them cost no memory.

use crate::link::{Ask, Link, LinkError};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many lie in one folder.
const PER_FOLDER: u32 = 1000;
/// How often the hub is asked to let one agent in.
const TRIES: u32 = 30;

/// What an agent shows the hub.
pub struct Identity {
    /// Whose it is.
    pub index: u32,
    /// The certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Why an agent is not known to the hub.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk.
    #[error("{doing} {path}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No key or no request can be made.
    #[error("make a key and a request for a certificate")]
    Make(#[from] rcgen::Error),
    /// The hub was not reached.
    #[error("enrol {name}")]
    Link {
        /// Who was to be let in.
        name: String,
        /// What went wrong.
        #[source]
        source: LinkError,
    },
    /// The hub said no.
    #[error("{name} is not let in: {code} {why}")]
    Refused {
        /// Who was to be let in.
        name: String,
        /// The status of the answer.
        code: u16,
        /// What the hub had to say.
        why: String,
    },
    /// There is none and no token.
    #[error("{name} has no certificate in {folder} and there is no token to ask for one with (--token-file)")]
    NoToken {
        /// Whose is missing.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// This one; it need not be there.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn file(&self, index: u32, name: &str) -> PathBuf {
        self.0.join(format!("{:03}", index / PER_FOLDER)).join(format!("{name}.pem"))
    }

    /// The identity of an agent. A file that does not read is as good as none.
    #[must_use]
    pub fn load(&self, index: u32, name: &str) -> Option<Identity> {
        let path = self.file(index, name);
        let key = PrivateKeyDer::from_pem_file(&path).ok()?;
        let chain: Vec<_> = CertificateDer::pem_file_iter(&path).ok()?.collect::<Result<_, _>>().ok()?;
        (!chain.is_empty()).then_some(Identity { index, chain, key })
    }

    fn keep(&self, index: u32, name: &str, pem: &str) -> Result<(), IdentityError> {
        let path = self.file(index, name);
        let disk = |doing| {
            let path = path.clone();
            move |source| IdentityError::Disk { doing, path, source }
        };
        if let Some(folder) = path.parent() {
            let mut make = std::fs::DirBuilder::new();
            make.recursive(true).mode(0o700).create(folder).map_err(disk("make the folder of"))?;
        }
        let mut file = std::fs::OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(&path).map_err(disk("make"))?;
        file.write_all(pem.as_bytes()).map_err(disk("write"))
    }

    /// Asks the hub to let an agent in, unless it is; whether it had to. Where the hub is busy it is asked again.
    ///
    /// # Errors
    /// When the hub says no or cannot be reached, or the folder cannot be written.
    pub async fn enrol(
        &self,
        link: &mut Link,
        index: u32,
        name: &str,
        token: Option<&str>,
    ) -> Result<bool, IdentityError> {
        if self.load(index, name).is_some() {
            return Ok(false);
        }
        let no_token = || IdentityError::NoToken { name: name.to_owned(), folder: self.0.clone() };
        let token = token.ok_or_else(no_token)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?.pem()?;
        let body = serde_json::json!({"token": token, "node": name, "csr": csr}).to_string();
        let certificate = given(link, name, &body).await?;
        self.keep(index, name, &format!("{}{certificate}", key.serialize_pem()))?;
        Ok(true)
    }
}

async fn given(link: &mut Link, name: &str, body: &str) -> Result<String, IdentityError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Given {
        certificate: String,
        detail: String,
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let ask = Ask {
            path: "/v1/enroll",
            kind: Some("application/json"),
            body: body.as_bytes().to_vec(),
            cap: 64 * 1024,
        };
        let link_error = |source| IdentityError::Link { name: name.to_owned(), source };
        let reply = match link.ask(None, ask).await {
            Err(_) if tries < TRIES => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            reply => reply.map_err(link_error)?,
        };
        let given: Given = serde_json::from_slice(&reply.body).unwrap_or_default();
        match reply.code {
            200 if !given.certificate.is_empty() => return Ok(given.certificate),
            429 | 503 if tries < TRIES => {
                let pause = reply.after.unwrap_or(Duration::from_secs(1));
                tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64())).await;
            }
            code => return Err(IdentityError::Refused { name: name.to_owned(), code, why: given.detail }),
        }
    }
}
