//! What went wrong in the demo, for the person who started it. Never decides what to do about it.

/// Something that could not be done, with its cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Told in full.
    #[error("{0}")]
    Told(String),
    /// The system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

/// What a step of the demo gives.
pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// A text that says it all.
    pub(crate) fn told(text: impl Into<String>) -> Self {
        Self::Told(text.into())
    }

    /// It and its causes on one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            line = format!("{line}: {cause}");
            next = cause.source();
        }
        line
    }
}

/// Say what was being done when something failed.
pub(crate) trait Doing<T> {
    /// Wrap the error with `doing`, as in "mount /etc".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Trouble::Io { doing: doing(), cause: cause.into() })
    }
}
