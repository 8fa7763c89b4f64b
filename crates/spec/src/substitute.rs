//! `${…}` in texts: plain words that stand for what is known of a node. No expressions, no conditions, no loops.
//!
//! `$${` is left as it is here, and so is `${credential.…}`: a credential is known on the node alone, and whoever puts it in
//! there turns `$${` into `${` in the same go. A value never holds a `$`, so it cannot become a word by itself.

use crate::paths::Path;
use crate::show;
use std::collections::BTreeMap;

/// The most characters of a word that are looked at for its end.
const LONGEST: usize = 200;
/// What may be asked of a path.
const OF_PATH: [&str; 12] = [
    "idle_timeout",
    "idle_timeout_s",
    "blackout_at_most",
    "blackout_at_most_s",
    "port",
    "service",
    "keepalive_time",
    "keepalive_intvl",
    "keepalive_probes",
    "user_timeout_ms",
    "retries2",
    "rto_max_ms",
];

/// What is known of a node.
pub(crate) struct Who<'r> {
    /// Its name; one of many where a glob is meant.
    pub(crate) node: String,
    /// Its name or its glob, for a person.
    pub(crate) pattern: &'r str,
    pub(crate) tier: &'r str,
    pub(crate) fleet: &'r str,
    pub(crate) labels: &'r BTreeMap<String, String>,
    pub(crate) paths: &'r BTreeMap<String, Path>,
}

/// A word that stands for nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    /// The byte where it begins.
    pub(crate) index: usize,
    /// With its `${`.
    pub(crate) word: String,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// The text with every value in its place, or every word that has none.
pub(crate) fn put_in(text: &str, who: &Who) -> Result<String, Vec<Miss>> {
    let (mut out, mut misses, mut at) = (String::with_capacity(text.len()), vec![], 0);
    while let Some(next) = text[at..].find('$').map(|next| at + next) {
        out.push_str(&text[at..next]);
        let rest = &text[next..];
        if rest.starts_with("$${") {
            out.push_str("$${");
            at = next + 3;
            continue;
        }
        let Some(inner) = rest.strip_prefix("${") else {
            out.push('$');
            at = next + 1;
            continue;
        };
        let word = inner.split('\n').next().and_then(|line| line.split_once('}')).map(|(word, _)| word);
        match word.filter(|word| word.len() <= LONGEST) {
            None => {
                misses.push(Miss {
                    index: next,
                    word: "${".to_owned(),
                    message: "this `${` is not closed in its line".to_owned(),
                    help: AS_IT_IS.to_owned(),
                });
                at = next + 2;
            }
            Some(word) => {
                match value(word, who) {
                    Ok(Some(value)) => out.push_str(&value),
                    Ok(None) => out.push_str(&rest[..word.len() + 3]),
                    Err((message, help)) => {
                        misses.push(Miss { index: next, word: format!("${{{word}}}"), message, help });
                    }
                }
                at = next + word.len() + 3;
            }
        }
    }
    out.push_str(&text[at..]);
    if misses.is_empty() { Ok(out) } else { Err(misses) }
}

const AS_IT_IS: &str = "write `$${…}` where it is meant as it stands, or say `substitute: false`";

/// What a word stands for; `None` where only the node knows.
fn value(word: &str, who: &Who) -> Result<Option<String>, (String, String)> {
    let found = match word.split_once('.') {
        None => match word {
            "node" => Some(who.node.clone()),
            "tier" => Some(who.tier.to_owned()),
            "fleet" => Some(who.fleet.to_owned()),
            _ => None,
        },
        Some(("label", name)) => match who.labels.get(name) {
            Some(value) => Some(value.clone()),
            None => return Err(no_label(word, name, who)),
        },
        Some(("path", rest)) => return of_path(word, rest, who).map(Some),
        Some(("credential", name)) if is_credential(name) => return Ok(None),
        Some(_) => None,
    };
    match found {
        Some(value) if value.contains('$') || value.chars().any(show::is_hidden) => {
            let message = format!("the value of {} holds a `$` or a line's end", show::quoted(word));
            Err((message, "give it another value: it could be read as something else".to_owned()))
        }
        Some(value) => Ok(Some(value)),
        None => Err(unknown(word)),
    }
}

/// As systemd takes the name of a credential: it names a file.
fn is_credential(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

fn unknown(word: &str) -> (String, String) {
    let words = ["node", "tier", "fleet", "label.NAME", "path.NAME.FIELD", "credential.NAME"];
    let near = show::near(word, &words).map(|near| format!("did you mean {}? ", show::quoted(near)));
    let known = show::list(&words, "and");
    let help = format!("{}{AS_IT_IS}; known are {known}", near.unwrap_or_default());
    (format!("nothing is known as {}", show::quoted(&format!("${{{word}}}"))), help)
}

fn no_label(word: &str, name: &str, who: &Who) -> (String, String) {
    let known: Vec<&String> = who.labels.keys().collect();
    let near = show::near(name, &known).map(|near| format!("did you mean {}? ", show::quoted(near)));
    let message = format!("{} has no label {} for {}", show::quoted(who.pattern), show::quoted(name), {
        show::quoted(&format!("${{{word}}}"))
    });
    (message, format!("{}give it one in fleet.yaml, or {AS_IT_IS}", near.unwrap_or_default()))
}

fn of_path(word: &str, rest: &str, who: &Who) -> Result<String, (String, String)> {
    let Some((name, field)) = rest.rsplit_once('.') else { return Err(unknown(word)) };
    let Some(path) = who.paths.get(name) else {
        let known: Vec<&String> = who.paths.keys().collect();
        let message = format!("there is no path {} in fleet.yaml", show::quoted(name));
        return Err((message, format!("{}; {AS_IT_IS}", show::allowed(name, &known))));
    };
    let promise = &path.promise;
    let seconds = |word: &evenkeel_core::DurationWord| word.duration().as_secs().to_string();
    let value = match field {
        "idle_timeout" => path.idle_timeout.to_string(),
        "idle_timeout_s" => seconds(&path.idle_timeout),
        "blackout_at_most" => path.blackout_at_most.to_string(),
        "blackout_at_most_s" => seconds(&path.blackout_at_most),
        "port" => path.to.port.unwrap_or_default().to_string(),
        "service" => path.service.clone().ok_or_else(|| {
            let message = format!("path {} has no service", show::quoted(name));
            (message, "say `service:` there".to_owned())
        })?,
        "keepalive_time" => promise.keepalive_time.to_string(),
        "keepalive_intvl" => promise.keepalive_intvl.to_string(),
        "keepalive_probes" => promise.keepalive_probes.to_string(),
        "user_timeout_ms" => promise.user_timeout_ms.to_string(),
        "retries2" => promise.retries2.to_string(),
        "rto_max_ms" => promise.rto_max_ms.to_string(),
        _ => {
            let message = format!("a path has no {}", show::quoted(field));
            return Err((message, show::allowed(field, &OF_PATH)));
        }
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn with<T>(labels: &[(&str, &str)], ask: impl FnOnce(&Who) -> T) -> T {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let (labels, paths) = (labels.iter().map(own).collect(), BTreeMap::new());
        ask(&Who {
            node: "mw1".into(),
            pattern: "mw*",
            tier: "middleware",
            fleet: "eden",
            labels: &labels,
            paths: &paths,
        })
    }

    fn put(text: &str) -> Result<String, Vec<Miss>> {
        with(&[("role", "primary"), ("bad", "a$")], |who| put_in(text, who))
    }

    #[test]
    fn words_are_replaced_and_everything_else_stays_as_it_is() {
        assert_eq!(put("${node}/${tier}/${fleet} ${label.role}$").unwrap(), "mw1/middleware/eden primary$");
        for same in ["", "$", "$$", "a $b {c} $(d)", "$${node}", "${credential.db}", "$$${node}", "100%\r\n"]
        {
            assert_eq!(put(same).unwrap(), same);
        }
    }

    #[test]
    fn every_word_that_stands_for_nothing_is_told_with_its_place() {
        let misses = put("a\n${nod} ${label.rol}\n${label.bad} ${open\n}${path.db.port} ${credential.../x}")
            .unwrap_err();
        let told: Vec<_> = misses.iter().map(|miss| (miss.index, miss.word.as_str())).collect();
        let all = [
            (2, "${nod}"),
            (9, "${label.rol}"),
            (22, "${label.bad}"),
            (35, "${"),
            (43, "${path.db.port}"),
            (59, "${credential.../x}"),
        ];
        assert_eq!(told, all);
        assert!(misses[0].help.contains("did you mean `node`?") && misses[0].help.contains("$${"));
        assert!(misses[1].message.contains("`mw*` has no label `rol`"), "{}", misses[1].message);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_no_word_is_left(text in "[a${}.\n]{0,40}|(\\$|\\{|\\}|node|label\\.role|x){0,12}") {
            if let Ok(text) = put(&text) {
                let again = put(&text);
                prop_assert_eq!(again.unwrap(), text);
            }
        }
    }
}
