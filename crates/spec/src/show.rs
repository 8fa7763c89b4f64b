//! How words of strangers are shown: control characters escaped, long ones cut, near ones suggested.

use std::fmt::Write;

/// The most characters of a value that a message shows.
const SHOWN: usize = 60;

/// Whether a character may not stand in a spec, nor reach a terminal: controls, and what reorders or hides text.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The text with hidden characters escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => clean.push_str("\\n"),
            '\t' => clean.push_str("\\t"),
            '\r' => clean.push_str("\\r"),
            c if is_hidden(c) => {
                let _ = write!(clean, "\\u{{{:x}}}", u32::from(c));
            }
            c => clean.push(c),
        }
    }
    clean
}

/// The text escaped, and cut after `most` characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut start: String = text.chars().take(most).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    escaped(&start)
}

/// A word in backticks, safe and short.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", cut(text, SHOWN))
}

/// Words in backticks with commas, and one word before the last: `list(&["a", "b"], "or")`.
pub(crate) fn list<S: AsRef<str>>(words: &[S], last: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_ref())).collect();
    match words.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// What to do about a word that is not among those allowed.
pub(crate) fn allowed<S: AsRef<str>>(word: &str, words: &[S]) -> String {
    let all = list(words, "and");
    match near(word, words) {
        Some(meant) => format!("did you mean {}? Allowed here: {all}", quoted(meant)),
        None => format!("allowed here: {all}"),
    }
}

/// The word that somebody may have meant.
pub(crate) fn near<'a, S: AsRef<str>>(word: &str, words: &'a [S]) -> Option<&'a str> {
    let length = word.chars().count();
    if length > SHOWN {
        return None;
    }
    let most = length.max(3) / 3;
    let close = words.iter().map(|known| (distance(word, known.as_ref()), known.as_ref()));
    close.filter(|(away, _)| *away <= most).min().map(|(_, known)| known)
}

/// How many letters to add, drop, change or swap (optimal string alignment), upper and lower case alike.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().collect();
    let to: Vec<char> = to.to_lowercase().chars().take(2 * SHOWN).collect();
    let mut before: Vec<usize> = vec![];
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_is_shown() {
        assert_eq!(escaped("a\u{1b}[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(quoted(&"x".repeat(100)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["sysctl", "postgresql", "mount"];
        assert_eq!(near("sysclt", &words), Some("sysctl"));
        assert_eq!(near("Mounts", &words), Some("mount"));
        assert_eq!(near("postgres", &words), Some("postgresql"));
        assert_eq!(near("cron", &words), None);
        assert_eq!(near("", &words), None);
    }
}
