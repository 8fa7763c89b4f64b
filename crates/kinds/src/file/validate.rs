//! Whether a text is what it is meant to be, told with its line. Pure: nothing is run to find out.

mod ini;
mod service;
mod uwsgi;

use super::want::Form;

pub(super) use service::section;
pub(super) use uwsgi::{harakiri, service as named_service};

/// What is wrong with a text. Nothing of the text itself is told but names of keys and sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Which line, from 1; `None` for the whole.
    pub(super) line: Option<usize>,
    pub(super) what: String,
    pub(super) help: &'static str,
}

impl Flaw {
    fn at(line: usize, what: impl Into<String>, help: &'static str) -> Self {
        Self { line: Some(line), what: what.into(), help }
    }
}

/// The most flaws of one text that are told.
const MOST: usize = 10;

/// What is wrong with the text of the file at `path`. Whatever may be checked, a text for uWSGI or Apache that runs a
/// program is never right.
pub(super) fn flaws(form: Form, path: &str, text: &str) -> Vec<Flaw> {
    let mut flaws = match form {
        Form::Nothing => vec![],
        Form::Ini => ini::flaws(text),
        Form::Json => json(text),
        Form::Yaml => yaml(text),
        Form::Uwsgi => uwsgi::flaws(text),
        Form::PgService => service::flaws(text),
    };
    if form != Form::Uwsgi {
        flaws.extend(uwsgi::programs(text));
    }
    if path.starts_with("/etc/apache2/") || path.starts_with("/etc/httpd/") {
        flaws.extend(piped(text));
    }
    flaws.truncate(MOST);
    flaws
}

fn json(text: &str) -> Vec<Flaw> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => vec![],
        Err(error) if error.is_eof() => {
            vec![Flaw::at(error.line(), "the JSON ends too early", "close what is open")]
        }
        Err(error) => {
            let what = format!("this is no JSON (column {})", error.column());
            vec![Flaw::at(
                error.line(),
                what,
                "look at the commas, the quotes and the brackets here and above",
            )]
        }
    }
}

fn yaml(text: &str) -> Vec<Flaw> {
    match serde_yaml::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => vec![],
        Err(error) => {
            let line = error.location().and_then(|location| usize::try_from(location.line()).ok());
            let help = "look at the indentation, the colons and the quotes here and above";
            vec![Flaw { line, what: "this is no YAML document".into(), help }]
        }
    }
}

/// Apache starts programs as root for logs that begin with a pipe, and for maps that it asks.
fn piped(text: &str) -> Vec<Flaw> {
    let pipes = ["customlog", "errorlog", "transferlog", "globallog", "forensiclog", "rewritelog"];
    let runs = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default().to_lowercase();
        let target = words.next().unwrap_or_default().trim_start_matches(['"', '\'']);
        (pipes.contains(&first.as_str()) && target.starts_with('|')) || line.to_lowercase().contains("prg:")
    };
    let one = |(line, number): (&str, usize)| {
        runs(line).then(|| Flaw::at(number, "this runs a program, and a spec can run none", "log to a file"))
    };
    text.lines().zip(1..).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(form: Form, path: &str, text: &str) -> Vec<Option<usize>> {
        flaws(form, path, text).into_iter().map(|flaw| flaw.line).collect()
    }

    #[test]
    fn json_and_yaml_are_told_with_their_line() {
        assert_eq!(lines(Form::Json, "/a", "{\"a\": [1, 2]}\n"), []);
        assert_eq!(lines(Form::Json, "/a", "{\n  \"a\": 1,\n}\n"), [Some(3)]);
        assert_eq!(lines(Form::Json, "/a", "{\n"), [Some(2)]);
        assert_eq!(lines(Form::Yaml, "/a", "a: 1\nb: [1, 2]\n"), []);
        assert_eq!(lines(Form::Yaml, "/a", "a: 1\nb: [1, 2\nc: 3\n").len(), 1);
        assert_eq!(lines(Form::Nothing, "/a", "{ [ = anything"), []);
    }

    #[test]
    fn no_secret_is_told_with_a_flaw() {
        for form in [Form::Json, Form::Yaml, Form::Ini, Form::Uwsgi, Form::PgService] {
            for text in [
                "canary",
                "{\"canary",
                "[a]\ncanary\n",
                "a: 'canary",
                "[uwsgi]\nexec-asap = canary\n",
                "[a]\nhost=canary\nx\n",
            ] {
                let told = format!("{:?}", flaws(form, "/a", text));
                assert!(!told.contains("canary"), "{form:?} {text}: {told}");
            }
        }
    }

    #[test]
    fn apache_pipes_no_log_into_a_program() {
        let text = "ErrorLog /var/log/x\n  CustomLog \"|/bin/sh -c x\" combined\nRewriteMap a prg:/x\n";
        assert_eq!(lines(Form::Nothing, "/etc/apache2/a.conf", text), [Some(2), Some(3)]);
        assert_eq!(lines(Form::Nothing, "/srv/a.conf", text), []);
    }
}
