//! `${credential.NAME}` in a text: put in on the node, in memory, at the last moment.
//!
//! The same go turns `$${` into `${`. Everything else was put in when the spec was made.

use evenkeel_core::Secret;
use std::collections::BTreeMap;

const OPEN: &str = "${credential.";

/// A piece of a text.
enum Piece<'t> {
    Plain(&'t str),
    Credential(&'t str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (vec![], text);
    while let Some(at) = rest.find('$') {
        pieces.push(Piece::Plain(&rest[..at]));
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            pieces.push(Piece::Plain("${"));
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix(OPEN).and_then(|rest| rest.split_once('}'))
            && is_name(name)
        {
            pieces.push(Piece::Credential(name));
            rest = after;
        } else {
            pieces.push(Piece::Plain("$"));
            rest = &rest[1..];
        }
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// A name that names one file in systemd's folder of credentials.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(plain)
}

/// The credentials that stand in a text, each once.
pub(super) fn names(text: &str) -> Vec<&str> {
    let mut names = vec![];
    for piece in pieces(text) {
        if let Piece::Credential(name) = piece
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The text as it is written; credentials that are not known are left out.
pub(super) fn put_in(text: &str, known: &BTreeMap<&str, Secret>) -> Secret {
    let one = |piece: &Piece| match piece {
        Piece::Plain(text) => (*text).to_owned(),
        Piece::Credential(name) => known.get(name).map(|secret| value(secret).to_owned()).unwrap_or_default(),
    };
    Secret::new(pieces(text).iter().map(one).collect::<String>())
}

/// A credential without the line's end that an editor has put behind it.
fn value(secret: &Secret) -> &str {
    let text = secret.reveal();
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// The text with something harmless in place of every credential, to be looked at before there are any.
pub(super) fn blank(text: &str, substituted: bool) -> String {
    if !substituted {
        return text.to_owned();
    }
    let one = |piece: &Piece| match piece {
        Piece::Plain(text) => (*text).to_owned(),
        Piece::Credential(_) => "0".to_owned(),
    };
    pieces(text).iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_put_in_once_and_nothing_in_them_is_read_again() {
        let text =
            "a=${credential.db}\nb=$${credential.db} ${node} $$ ${credential.../x} ${credential.none}$";
        assert_eq!(names(text), ["db", "none"]);
        let known = BTreeMap::from([("db", Secret::new("${credential.db}$${\n"))]);
        let out = put_in(text, &known);
        assert_eq!(out.reveal(), "a=${credential.db}$${\nb=${credential.db} ${node} $$ ${credential.../x} $");
        assert_eq!(blank("${credential.a}$${", true), "0${");
        assert_eq!(blank("${credential.a}$${", false), "${credential.a}$${");
    }

    #[test]
    fn a_text_without_words_is_byte_for_byte_the_same() {
        for text in ["", "$", "a\r\nb", "no end", "${", "$$", "{}"] {
            assert_eq!(put_in(text, &BTreeMap::new()).reveal(), text);
        }
    }
}
