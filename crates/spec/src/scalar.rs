//! What a bare word of YAML means here: the plain few, and nothing that readers would take for something else.

use serde_json::{Number, Value};

/// What a bare word means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bare {
    /// A value.
    Value(Value),
    /// Something that is not taken bare: what is wrong, and what to write instead.
    Refused(String, String),
}

/// Read a bare word.
pub(crate) fn read(word: &str) -> Bare {
    match word {
        "" | "null" => return Bare::Value(Value::Null),
        "true" => return Bare::Value(Value::Bool(true)),
        "false" => return Bare::Value(Value::Bool(false)),
        _ => {}
    }
    truth(word).or_else(|| number(word)).unwrap_or_else(|| Bare::Value(Value::String(word.to_owned())))
}

fn refused(why: &str, help: String) -> Bare {
    Bare::Refused(why.to_owned(), help)
}

/// Words that some readers of YAML take for a truth value, or for nothing.
fn truth(word: &str) -> Option<Bare> {
    let lower = word.to_ascii_lowercase();
    let (meant, sure) = match lower.as_str() {
        "yes" | "on" | "y" => ("true", false),
        "no" | "off" | "n" => ("false", false),
        "true" => ("true", true),
        "false" => ("false", true),
        "null" | "~" => ("null", true),
        _ => return None,
    };
    let help = format!("quote it (\"{word}\") where the text is meant, or write {meant}");
    let why = if sure { "is not how this is written" } else { "may mean a truth value or a text" };
    Some(refused(why, help))
}

/// Numbers: decimal, without leading zeros; every other writing of a number is refused.
fn number(word: &str) -> Option<Bare> {
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    let quote = || format!("quote it (\"{word}\") where the text is meant, or write a plain decimal number");
    if matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return Some(refused("is no number that can be kept", quote()));
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Some(bare) = other_base(digits, word) {
        return Some(bare);
    }
    let (mantissa, exponent) = digits.split_once(['e', 'E']).map_or((digits, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let power = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && all_digits(e)
    });
    if !(all_digits(whole) && fraction.is_none_or(all_digits) && power) || mantissa == "." {
        return None;
    }
    if whole.len() > 1 && whole.starts_with('0') {
        let why = "has a leading zero: some read it as octal, some as decimal";
        return Some(refused(why, format!("quote it (\"{word}\"), or write it without the zero")));
    }
    if word.starts_with('+') || whole.is_empty() || fraction == Some("") {
        return Some(refused("is not how a number is written here", quote()));
    }
    Some(decimal(word, fraction.is_none() && exponent.is_none()).map_or_else(
        || refused("is out of the range of numbers", quote()),
        |number| Bare::Value(Value::Number(number)),
    ))
}

fn decimal(word: &str, whole: bool) -> Option<Number> {
    if whole {
        let signed = word.parse::<i64>().ok().map(Number::from);
        return signed.or_else(|| word.parse::<u64>().ok().map(Number::from));
    }
    word.parse::<f64>().ok().and_then(Number::from_f64)
}

/// `0x1F`, `0o17`, `0b11`, `1_000`.
fn other_base(digits: &str, word: &str) -> Option<Bare> {
    let based = |prefix: &str, radix: u32| {
        let rest = digits.strip_prefix(prefix)?;
        (!rest.is_empty() && rest.chars().all(|c| c.is_digit(radix) || c == '_')).then_some(())
    };
    let hex = based("0x", 16).or_else(|| based("0X", 16));
    if hex.or_else(|| based("0o", 8)).or_else(|| based("0b", 2)).is_some() {
        let help = format!("quote it (\"{word}\"), or write it in decimal");
        return Some(refused("is a number that is not decimal", help));
    }
    let grouped = digits.contains('_') && digits.chars().all(|c| c.is_ascii_digit() || c == '_');
    grouped.then(|| {
        let help = format!("quote it (\"{word}\"), or write the digits together");
        refused("is a number to some readers and a text to others", help)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_words_mean_what_they_look_like() {
        for (word, value) in [
            ("", Value::Null),
            ("null", Value::Null),
            ("true", json!(true)),
            ("0", json!(0)),
            ("-1", json!(-1)),
            ("18446744073709551615", json!(u64::MAX)),
            ("0.9", json!(0.9)),
            ("1e3", json!(1000.0)),
            ("350s", json!("350s")),
            ("10.20.3.5:/eden", json!("10.20.3.5:/eden")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("4.2.1", json!("4.2.1")),
            (".export-id", json!(".export-id")),
            (".", json!(".")),
            ("..", json!("..")),
            ("-", json!("-")),
            ("-x", json!("-x")),
            ("0755x", json!("0755x")),
            ("1e", json!("1e")),
            ("None", json!("None")),
        ] {
            assert_eq!(read(word), Bare::Value(value), "{word}");
        }
    }

    #[test]
    fn what_two_readers_could_take_for_two_things_is_refused() {
        let words = "yes No ON off y N True FALSE Null ~ 0750 007 -01 00.5 0x1F 0o17 0b1 1_000 +5 .5 5. .inf -.INF .NaN \
                     1e999 99999999999999999999999";
        for word in words.split_whitespace() {
            assert!(matches!(read(word), Bare::Refused(..)), "{word}");
        }
    }
}
