//! How a file that evenkeel owns is told from one that a person wrote.

/// The first line of every file evenkeel owns.
pub const MARKER: &str =
    "# evenkeel owns this file and replaces it whole. Change the fleet's spec, not this.";

/// What every version of the marker starts with.
const STEM: &str = "# evenkeel owns this file";

/// Whether evenkeel may replace or remove a file with this text: it bears the marker, or says nothing at all.
#[must_use]
pub fn is_owned(text: &str) -> bool {
    text.starts_with(STEM) || text.trim().is_empty()
}
