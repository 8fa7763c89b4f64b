//! A file as it is on the node, and texts that must not leave it.

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// Its text; what is not UTF-8 comes with replacement characters.
    pub text: Secret,
    /// Its owner: a name, or a number where that has none.
    pub owner: String,
    /// Its group: a name, or a number where that has none.
    pub group: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A text that is shown to nobody: `Debug` tells its length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keep a text to ourselves.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever writes it where it belongs, or compares it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}
