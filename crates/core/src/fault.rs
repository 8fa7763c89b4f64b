//! Why something on the node could not be observed or changed.

/// What kind of trouble it is, which decides the item's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// This node cannot have it (`EROFS` on a sysctl tree, a kernel without the feature): `not_applicable`.
    NotApplicable,
    /// It is not there yet, and may come without anyone's help: `pending`.
    Waiting,
    /// Anything else: `error`.
    Trouble,
}

/// Something that could not be observed or changed.
///
/// Its text says what was being done and to what, as in "write the sysctl `net.ipv4.tcp_retries2`"; the cause is its
/// source. Texts carry no timings, so that equal faults read equal.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Fault {
    /// What was being done, for a person.
    pub doing: String,
    /// What kind of trouble it is.
    pub class: Class,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// Trouble without a deeper cause.
    pub fn new(doing: impl Into<String>) -> Self {
        Self { doing: doing.into(), class: Class::Trouble, source: None }
    }

    /// Trouble with its cause.
    pub fn from(
        doing: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { doing: doing.into(), class: Class::Trouble, source: Some(cause.into()) }
    }

    /// The same fault, of another class.
    #[must_use]
    pub fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

/// An error and everything beneath it, on one line.
///
/// No error in evenkeel repeats its source in its own `Display`; this is the one place they meet.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}
