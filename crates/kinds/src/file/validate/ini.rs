//! ini files: sections, and `key = value` below them.

use super::Flaw;

/// One line that says something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'t> {
    Section(&'t str),
    Pair(&'t str, &'t str),
    Bad,
}

/// The lines that say something, each with its number. An indented line goes on with the value above it.
pub(super) fn lines(text: &str) -> Vec<(usize, Line<'_>)> {
    let mut lines = vec![];
    for (line, number) in text.lines().zip(1..) {
        let trimmed = line.trim();
        let goes_on = line.starts_with([' ', '\t']) && matches!(lines.last(), Some((_, Line::Pair(..))));
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let pair = || trimmed.split_once('=').or_else(|| trimmed.split_once(':'));
        let told = match trimmed.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').map_or(Line::Bad, |name| Line::Section(name.trim())),
            None => match pair() {
                Some((key, value)) if !key.trim().is_empty() => Line::Pair(key.trim(), value.trim()),
                _ if goes_on => continue,
                _ => Line::Bad,
            },
        };
        lines.push((number, told));
    }
    lines
}

pub(super) fn flaws(text: &str) -> Vec<Flaw> {
    let bad = |(number, line): (usize, Line)| {
        let help = "write `[section]`, `key = value`, or a comment with `#` or `;`";
        (line == Line::Bad).then(|| Flaw::at(number, "this is no line of an ini file", help))
    };
    lines(text).into_iter().filter_map(bad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_section_and_no_pair_is_told() {
        let good = "; a\n# b\nfree = 1\n[a]\nb = c = d\ne: f\n  goes on\n\n[ x ]\nempty =\n";
        assert_eq!(flaws(good), []);
        let bad: Vec<_> =
            flaws("[a\n= b\nword\n[a]\nword\n").into_iter().filter_map(|flaw| flaw.line).collect();
        assert_eq!(bad, [1, 2, 3, 5]);
    }
}
