//! Who is at the other end of a connection, and what he may say.
//!
//! A node's name is in its certificate and comes from nothing in a body. What a certificate may still do is asked of the
//! store at every request, so that a ban holds at once on connections that are open.

use crate::ca::{NODE_URN, hex};
use crate::store::registry::{Admission, Mark};
use crate::wire::Incoming;
use evenkeel_report::Node;
use std::net::SocketAddr;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub at: SocketAddr,
    /// How it came.
    pub came: Came,
}

/// How somebody came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// In the clear, on a hub that has no certificates at all.
    Trusted,
    /// In the clear, beside a door that asks for certificates.
    Plain,
    /// Over TLS, without a certificate.
    Anonymous,
    /// Over TLS, with one that this hub's authority has signed.
    Certified(Card),
}

/// What a client's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its serial number, in hex.
    pub serial: String,
    /// The node's name.
    pub name: String,
}

impl Card {
    /// Reads a certificate whose signature has been checked; nothing where it names no node.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let own = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
        let (_, names) = own.get::<SubjectAltName>().ok()??;
        let name = names.0.iter().find_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => uri.as_str().strip_prefix(NODE_URN),
            _ => None,
        })?;
        Some(Self { serial: hex(own.serial_number.as_bytes()), name: name.to_owned() })
    }
}

/// Why somebody is not listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shut {
    /// Certificates are asked for, and he came in the clear.
    Plain,
    /// He has no certificate.
    NoCertificate,
    /// The store does not know his certificate, or its time is over.
    Unknown,
    /// He is banned.
    Banned,
    /// His node was taken out.
    Removed,
    /// Another machine was let in under his name since, or speaks with his certificate.
    Cloned,
    /// He speaks for somebody else.
    Forged,
    /// He is not what his token was for.
    Scope,
}

impl Shut {
    /// Its word, in answers and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain_http",
            Self::NoCertificate => "no_certificate",
            Self::Unknown => "unknown_certificate",
            Self::Banned => "banned",
            Self::Removed => "removed",
            Self::Cloned => "cloned_identity",
            Self::Forged => "forged_identity",
            Self::Scope => "out_of_scope",
        }
    }
}

/// Whether a certificate may speak at all at `now` (unix ms).
///
/// # Errors
/// Why it may not.
pub fn judge(admission: &Admission, now: i64) -> Result<(), Shut> {
    let cloned = match (&admission.source, &admission.newest_source) {
        (Some(own), Some(newest)) => admission.enrolment != admission.newest && own != newest,
        _ => false,
    };
    match admission.mark {
        Some(Mark::Banned) => Err(Shut::Banned),
        _ if admission.banned => Err(Shut::Banned),
        Some(Mark::Removed) => Err(Shut::Removed),
        None if admission.until <= now => Err(Shut::Unknown),
        None if cloned => Err(Shut::Cloned),
        None => Ok(()),
    }
}

/// Whether every event is the certificate's own; the source they speak as, where this enrolment has not spoken before.
///
/// # Errors
/// Why one of them is not.
pub fn own<'a>(admission: &Admission, events: &'a [Incoming]) -> Result<Option<&'a str>, Shut> {
    let mut first = None;
    for event in events {
        let (source, subject, node) = event.said_by();
        if subject != admission.name || node.name != admission.name {
            return Err(Shut::Forged);
        }
        let known = admission.source.as_deref().or(first).unwrap_or(source);
        if source != known {
            return Err(Shut::Cloned);
        }
        if admission.enrolment != admission.newest
            && admission.newest_source.as_deref().is_some_and(|newest| newest != source)
        {
            return Err(Shut::Cloned);
        }
        if !in_scope(admission, node) {
            return Err(Shut::Scope);
        }
        first = Some(source);
    }
    Ok(first.filter(|_| admission.source.is_none()))
}

/// A node that has no spec yet has no tier either, and says nothing wrong.
fn in_scope(admission: &Admission, node: &Node) -> bool {
    let told = |key: &str| match key {
        "tier" => Some(node.tier.as_str()),
        key => node.labels.get(key).map(String::as_str),
    };
    node.tier.is_empty() || admission.labels.iter().all(|(key, value)| told(key) == Some(value.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Shut, in_scope, judge};
    use crate::store::registry::{Admission, Mark};
    use evenkeel_report::Node;

    fn admission() -> Admission {
        Admission {
            enrolment: 1,
            name: "mw1".into(),
            until: 1000,
            banned: false,
            mark: None,
            labels: [("tier".to_owned(), "db".to_owned())].into(),
            source: Some("urn:a".into()),
            newest: 1,
            newest_source: Some("urn:a".into()),
        }
    }

    #[test]
    fn who_is_banned_removed_late_or_a_clone_does_not_speak() {
        assert_eq!(judge(&admission(), 999), Ok(()));
        assert_eq!(judge(&admission(), 1000), Err(Shut::Unknown));
        assert_eq!(judge(&Admission { banned: true, ..admission() }, 1), Err(Shut::Banned));
        let mark = |mark| judge(&Admission { mark: Some(mark), ..admission() }, 1);
        assert_eq!((mark(Mark::Banned), mark(Mark::Removed)), (Err(Shut::Banned), Err(Shut::Removed)));
        let newer = |source: Option<&str>| Admission {
            newest: 2,
            newest_source: source.map(str::to_owned),
            ..admission()
        };
        assert_eq!(judge(&newer(Some("urn:b")), 1), Err(Shut::Cloned));
        assert_eq!(judge(&newer(Some("urn:a")), 1), Ok(()), "the same machine, let in again");
        assert_eq!(judge(&newer(None), 1), Ok(()), "the newer one has not spoken yet");
    }

    #[test]
    fn a_token_for_a_tier_lets_no_other_tier_speak() {
        let node = |tier: &str| Node { name: "mw1".into(), tier: tier.into(), ..Node::default() };
        assert!(in_scope(&admission(), &node("db")) && in_scope(&admission(), &node("")));
        assert!(!in_scope(&admission(), &node("mw")));
        let labelled = Admission { labels: [("rack".to_owned(), "7".to_owned())].into(), ..admission() };
        assert!(!in_scope(&labelled, &node("db")));
        let mut in_seven = node("db");
        in_seven.labels.insert("rack".into(), "7".into());
        assert!(in_scope(&labelled, &in_seven));
    }
}
