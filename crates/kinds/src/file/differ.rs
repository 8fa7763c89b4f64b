//! Two texts that differ, told by the first line that does.

/// The most characters of a line that are told.
const SHOWN: usize = 100;
/// Words that stand beside what nobody should read.
const TELLTALE: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "private",
    "credential",
    "apikey",
    "api_key",
    "hmac",
    "begin ",
];

/// What is there and what is meant, in words: `line 3: harakiri = 1000`, `line 3: harakiri = 90, and 2 lines more`.
pub(super) fn tell(there: &str, meant: &str) -> (String, String) {
    let lines = |text: &'_ str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<String>>();
    let (old, new) = (lines(there), lines(meant));
    let same = |(a, b): &(&String, &String)| a == b;
    let head = old.iter().zip(&new).take_while(same).count();
    let least = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(least).take_while(same).count();
    let span = old.len().max(new.len()) - head - tail;
    let more = match span.saturating_sub(1) {
        0 => String::new(),
        1 => ", and 1 line more".to_owned(),
        n => format!(", and {n} lines more"),
    };
    (line(&old, head), line(&new, head) + &more)
}

fn line(lines: &[String], at: usize) -> String {
    let number = at + 1;
    let Some(text) = lines.get(at) else { return format!("line {number}: none") };
    match text.strip_suffix('\n') {
        Some("") => format!("line {number}: empty"),
        Some(text) => format!("line {number}: {}", shown(text)),
        None => format!("line {number}: {} (without a line's end)", shown(text)),
    }
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(one).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn one(c: char) -> Vec<char> {
    let hidden = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    if hidden { c.escape_unicode().collect() } else { vec![c] }
}

/// Whether a text, which anybody may have written, may hold what nobody should read.
pub(super) fn may_be_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    let login = text.match_indices("://").any(|(at, _)| {
        let rest = text[at + 3..].split(char::is_whitespace).next().unwrap_or_default();
        rest.split_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    login || TELLTALE.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_told_with_how_many_more() {
        for (there, meant, old, new) in [
            ("a\nb\n", "a\nc\n", "line 2: b", "line 2: c"),
            ("a\nb\nx\nd\n", "a\nc\ny\nd\n", "line 2: b", "line 2: c, and 1 line more"),
            ("a\nd\n", "a\nb\nc\nd\n", "line 2: d", "line 2: b, and 1 line more"),
            ("a\nb\n", "a\n", "line 2: b", "line 2: none"),
            ("a", "a\n", "line 1: a (without a line's end)", "line 1: a"),
            ("", "a\n", "line 1: none", "line 1: a"),
            ("a\n\nb\n", "a\nb\n", "line 2: empty", "line 2: b"),
            ("a\u{1b}[2J\r\n", "a\n", "line 1: a\\u{1b}[2J\\u{d}", "line 1: a"),
        ] {
            assert_eq!(tell(there, meant), (old.to_owned(), new.to_owned()), "{there:?} {meant:?}");
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_for_one() {
        for text in ["PASSWORD = x", "db = postgres://a:b@c/d", "-----BEGIN RSA", "hmac_key=1"] {
            assert!(may_be_secret(text), "{text}");
        }
        for text in ["[uwsgi]\nharakiri = 90\n", "http://example.org/a@b", "socket=127.0.0.1:59025"] {
            assert!(!may_be_secret(text), "{text}");
        }
    }
}
