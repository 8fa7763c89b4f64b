//! Words in values that are typed: durations, sizes, file modes.
//!
//! Each is read from a string only, so that a bare `60` or a bare `0750` is an error and not a guess. What somebody
//! wrote is kept and shown as it was written; two words are equal when they mean the same. No arithmetic lives here.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

/// A string that is no such word: what was written, and what is meant to stand there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct WordError {
    text: String,
    expected: &'static str,
}

/// Shown of a text that is wrong; the rest is cut.
const SHOWN: usize = 60;

fn wrong(text: &str, expected: &'static str) -> WordError {
    WordError { text: text.chars().take(SHOWN).collect(), expected }
}

/// A whole number without sign or leading zeros, and the unit behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, unit))
}

/// A duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in `350s`, `10m`, `1500ms`.
#[derive(Debug, Clone)]
pub struct DurationWord {
    text: String,
    value: Duration,
}

impl DurationWord {
    const EXPECTED: &'static str = "a duration such as \"350s\", \"10m\", \"2h\" or \"1500ms\"";

    /// How long.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.value
    }
}

impl FromStr for DurationWord {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let read = || {
            let (number, unit) = split(text)?;
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            number.checked_mul(millis)
        };
        let millis = read().ok_or_else(|| wrong(text, Self::EXPECTED))?;
        Ok(Self { text: text.to_owned(), value: Duration::from_millis(millis) })
    }
}

/// A size: a whole number and one of `B`, `kB`, `MB`, `GB`, `TB`, as in `256MB`, `64kB`.
///
/// A step is 1024, as PostgreSQL and the kernel count, whatever SI says.
#[derive(Debug, Clone)]
pub struct SizeWord {
    text: String,
    value: u64,
}

impl SizeWord {
    const EXPECTED: &'static str = "a size such as \"256MB\", \"64kB\" or \"1GB\"";

    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.value
    }
}

impl FromStr for SizeWord {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let read = || {
            let (number, unit) = split(text)?;
            let steps = ["B", "kB", "MB", "GB", "TB"].iter().position(|known| *known == unit)?;
            number.checked_mul(1 << (10 * steps))
        };
        let value = read().ok_or_else(|| wrong(text, Self::EXPECTED))?;
        Ok(Self { text: text.to_owned(), value })
    }
}

/// The permission bits of a file or a folder: three or four octal digits in quotes, as in `"0750"`.
#[derive(Debug, Clone)]
pub struct FileMode {
    text: String,
    value: u32,
}

impl FileMode {
    const EXPECTED: &'static str = "a file mode such as \"0750\": three or four octal digits, in quotes";

    /// The bits, setuid, setgid and sticky among them.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.value
    }
}

impl FromStr for FileMode {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let bits = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
        let value = bits.ok_or_else(|| wrong(text, Self::EXPECTED))?;
        Ok(Self { text: text.to_owned(), value })
    }
}

/// What every word has: it is shown as it was written, compared by what it means, read from a string only.
macro_rules! word {
    ($word:ident, $pattern:literal) => {
        impl std::fmt::Display for $word {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.text)
            }
        }
        impl PartialEq for $word {
            fn eq(&self, other: &Self) -> bool {
                self.value == other.value
            }
        }
        impl Eq for $word {}
        impl Serialize for $word {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text)
            }
        }
        impl<'de> Deserialize<'de> for $word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl serde::de::Visitor<'_> for Reader {
                    type Value = $word;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($word::EXPECTED)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$word, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Reader)
            }
        }
        impl JsonSchema for $word {
            fn schema_name() -> Cow<'static, str> {
                stringify!($word).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $word::EXPECTED })
            }
        }
    };
}

word!(DurationWord, "^(0|[1-9][0-9]*)(ms|s|m|h|d)$");
word!(SizeWord, "^(0|[1-9][0-9]*)(B|kB|MB|GB|TB)$");
word!(FileMode, "^[0-7]{3,4}$");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_mean_what_they_say_and_are_shown_as_written() {
        let of = |text: &str| text.parse::<DurationWord>().map(|word| word.duration().as_millis()).ok();
        assert_eq!(of("350s"), Some(350_000));
        assert_eq!(of("10m"), Some(600_000));
        assert_eq!(of("2h"), Some(7_200_000));
        assert_eq!(of("1500ms"), Some(1500));
        assert_eq!(of("1d"), Some(86_400_000));
        assert_eq!("60s".parse::<DurationWord>().unwrap(), "1m".parse().unwrap());
        assert_eq!("60s".parse::<DurationWord>().unwrap().to_string(), "60s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "60", "60 s", "-1s", "1.5s", "060s", "60S", "60min", "99999999999999999999s"] {
            let error = text.parse::<DurationWord>().unwrap_err().to_string();
            assert!(error.contains("is not a duration such as \"350s\""), "{error}");
        }
        assert!(u64::MAX.to_string().parse::<DurationWord>().is_err());
        assert!(format!("{}d", u64::MAX).parse::<DurationWord>().is_err());
    }

    #[test]
    fn a_step_of_a_size_is_1024() {
        let of = |text: &str| text.parse::<SizeWord>().map(|word| word.bytes()).ok();
        assert_eq!(of("64kB"), Some(65_536));
        assert_eq!(of("256MB"), Some(268_435_456));
        assert_eq!(of("1TB"), Some(1 << 40));
        assert_eq!(
            (of("256mb"), of("256"), of("1.5GB"), of("18446744073709551615TB")),
            (None, None, None, None)
        );
    }

    #[test]
    fn a_file_mode_is_octal_digits_in_quotes() {
        let of = |text: &str| text.parse::<FileMode>().map(|word| word.bits()).ok();
        assert_eq!((of("0750"), of("750"), of("4755")), (Some(0o750), Some(0o750), Some(0o4755)));
        assert_eq!(
            (of("0780"), of("75"), of("00750"), of("+750"), of("0o75")),
            (None, None, None, None, None)
        );
        let bare = serde_json::from_str::<FileMode>("750").unwrap_err().to_string();
        assert!(bare.contains("expected a file mode such as \"0750\""), "{bare}");
    }

    #[test]
    fn words_travel_as_the_strings_they_were() {
        let word: SizeWord = serde_json::from_str("\"64kB\"").unwrap();
        assert_eq!(serde_json::to_string(&word).unwrap(), "\"64kB\"");
    }

    #[test]
    fn a_long_wrong_word_is_cut_and_control_characters_are_escaped() {
        let error =
            format!("\u{1b}[31m{}", "x".repeat(10_000)).parse::<DurationWord>().unwrap_err().to_string();
        assert!(error.len() < 200 && error.contains("\\u{1b}"), "{error}");
    }
}
