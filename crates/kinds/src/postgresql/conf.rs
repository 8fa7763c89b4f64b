//! The files of a PostgreSQL configuration, read as the server reads them: which lines count, in which order, and
//! whether evenkeel's drop-in is among what is read.
//!
//! The grammar is that of the server's `guc-file.l`. A file is never edited here; a line that the server would refuse is
//! told, because it keeps every other change from being applied.

use evenkeel_core::{Fault, Sensor};
use std::iter::Peekable;
use std::path::{Component, Path, PathBuf};
use std::str::Chars;

/// How deep files may include one another, as in the server.
const DEPTH: usize = 10;

/// One setting of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// In lower case: names are compared without it.
    pub(super) name: String,
    pub(super) value: String,
    pub(super) file: PathBuf,
    pub(super) line: u32,
}

/// A line that the server refuses, and with it the whole reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) file: PathBuf,
    pub(super) line: u32,
    pub(super) why: String,
}

/// Everything that the files say, in the server's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) settings: Vec<Setting>,
    pub(super) bad: Vec<BadLine>,
    /// How many settings come before our drop-in, where it is read at all, or would be if it were there.
    pub(super) ours: Option<usize>,
}

impl Conf {
    /// The last that is said of a parameter, our own drop-in apart.
    pub(super) fn last(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|one| one.name == name)
    }

    /// The last that is said of a parameter after our drop-in.
    pub(super) fn after_us(&self, name: &str) -> Option<&Setting> {
        self.settings[self.ours?..].iter().rfind(|one| one.name == name)
    }
}

/// Read `file` and what it includes; `ours` is not read, only noticed.
pub(super) fn read(file: &Path, ours: &Path, node: &dyn Sensor) -> Result<Conf, Fault> {
    let mut walk = Walk { conf: Conf::default(), ours, node };
    walk.file(file, 0)?;
    Ok(walk.conf)
}

struct Walk<'a> {
    conf: Conf,
    ours: &'a Path,
    node: &'a dyn Sensor,
}

impl Walk<'_> {
    /// Read one file; `false` where it is not there.
    fn file(&mut self, file: &Path, depth: usize) -> Result<bool, Fault> {
        if file == self.ours {
            self.conf.ours = Some(self.conf.settings.len());
            return Ok(true);
        }
        let Some(text) = self.node.read(file)? else { return Ok(false) };
        for (number, line) in (1u32..).zip(text.lines()) {
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => self.line(file, number, (name, value), depth)?,
                Err(why) => self.bad(file, number, why),
            }
        }
        Ok(true)
    }

    fn bad(&mut self, file: &Path, line: u32, why: impl Into<String>) {
        self.conf.bad.push(BadLine { file: file.to_owned(), line, why: why.into() });
    }

    fn line(&mut self, file: &Path, line: u32, said: (String, String), depth: usize) -> Result<(), Fault> {
        let (name, value) = said;
        let path = || tidy(&file.parent().unwrap_or(file).join(&value));
        let include = matches!(name.as_str(), "include" | "include_if_exists" | "include_dir");
        if include && depth >= DEPTH {
            self.bad(file, line, "files include one another too deeply");
        } else if name == "include_dir" {
            self.folder(file, line, &path(), depth)?;
        } else if include {
            let there = self.file(&path(), depth + 1)?;
            if !there && name == "include" {
                self.bad(file, line, format!("could not open file {}", path().display()));
            }
        } else {
            self.conf.settings.push(Setting { name, value, file: file.to_owned(), line });
        }
        Ok(())
    }

    /// Every `*.conf` in a folder that does not start with a dot, in the order of the names' bytes.
    fn folder(&mut self, file: &Path, line: u32, folder: &Path, depth: usize) -> Result<(), Fault> {
        let listed = self.node.list(folder)?;
        let own = self.ours.file_name().filter(|_| self.ours.parent() == Some(folder));
        if listed.is_none() && own.is_none() {
            self.bad(file, line, format!("could not open directory {}", folder.display()));
        }
        let mut names = listed.unwrap_or_default();
        names.extend(own.map(|name| name.to_string_lossy().into_owned()));
        names.sort();
        names.dedup();
        for name in names.iter().filter(|name| name.as_bytes().ends_with(b".conf") && !name.starts_with('.'))
        {
            self.file(&folder.join(name), depth + 1)?;
        }
        Ok(())
    }
}

/// A path without `.` and, where that is plain, without `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                tidy.pop();
            }
            part => tidy.push(part),
        }
    }
    tidy
}

/// One line: nothing, or a name in lower case and its value.
pub(super) fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let mut rest = line.chars().peekable();
    skip_blanks(&mut rest);
    if matches!(rest.peek(), None | Some('#')) {
        return Ok(None);
    }
    let name = take(&mut rest, |c| letter(c) || c.is_ascii_digit() || c == '.');
    let named = name.split('.').all(|part| part.starts_with(letter)) && name.matches('.').count() < 2;
    if !named {
        return Err("syntax error");
    }
    skip_blanks(&mut rest);
    if rest.next_if_eq(&'=').is_some() {
        skip_blanks(&mut rest);
    }
    let value = if rest.peek() == Some(&'\'') { quoted(&mut rest)? } else { bare(&mut rest)? };
    skip_blanks(&mut rest);
    match rest.peek() {
        None | Some('#') => Ok(Some((name.to_ascii_lowercase(), value))),
        Some(_) => Err("syntax error"),
    }
}

fn letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn skip_blanks(rest: &mut Peekable<Chars>) {
    while rest.next_if(|c| matches!(c, ' ' | '\t' | '\r')).is_some() {}
}

fn take(rest: &mut Peekable<Chars>, wanted: impl Fn(char) -> bool) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next_if(|c| wanted(*c)) {
        text.push(c);
    }
    text
}

/// A value without quotes: a word, a whole number with a unit, or a real number without one.
fn bare(rest: &mut Peekable<Chars>) -> Result<String, &'static str> {
    if rest.peek().is_some_and(|c| letter(*c)) {
        return Ok(take(rest, |c| letter(c) || c.is_ascii_digit() || "-._:/".contains(c)));
    }
    let text = take(rest, |c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if number(&text) { Ok(text) } else { Err("syntax error") }
}

fn number(text: &str) -> bool {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = plain.split_once(['e', 'E']).unwrap_or((plain, "0"));
    if let Some((whole, part)) = mantissa.split_once('.') {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return digits(whole) && digits(part) && !exponent.is_empty() && digits(exponent);
    }
    let hex = plain.strip_prefix("0x").is_some_and(|hex| hex.starts_with(|c: char| c.is_ascii_hexdigit()));
    let unit = plain.trim_start_matches(|c: char| c.is_ascii_digit());
    hex || (unit.len() < plain.len() && unit.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// A value in quotes: `''` and `\'` are a quote, and backslashes escape as in C.
fn quoted(rest: &mut Peekable<Chars>) -> Result<String, &'static str> {
    rest.next();
    let mut value = String::new();
    loop {
        match rest.next() {
            None => return Err("syntax error"),
            Some('\'') if rest.next_if_eq(&'\'').is_some() => value.push('\''),
            Some('\'') => return Ok(value),
            Some('\\') => match rest.next() {
                None => return Err("syntax error"),
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some('b') => value.push('\u{8}'),
                Some('f') => value.push('\u{c}'),
                Some(c @ '0'..='7') => value.push(octal(c, rest)),
                Some(c) => value.push(c),
            },
            Some(c) => value.push(c),
        }
    }
}

fn octal(first: char, rest: &mut Peekable<Chars>) -> char {
    let mut code = first.to_digit(8).unwrap_or_default();
    for _ in 0..2 {
        match rest.next_if(|c| c.is_digit(8)).and_then(|c| c.to_digit(8)) {
            Some(digit) => code = code * 8 + digit,
            None => break,
        }
    }
    char::from(u8::try_from(code & 0xff).unwrap_or_default())
}

/// A value as it stands in a file, in quotes.
pub(super) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::disallowed_methods, reason = "the real server is the judge")]
    use super::*;
    use evenkeel_core::fake::FakeNode;
    use proptest::prelude::*;

    fn conf(files: &[(&str, &str)]) -> Conf {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let node = FakeNode { files, ..FakeNode::default() };
        read(Path::new("/c/postgresql.conf"), Path::new("/c/conf.d/99-evenkeel.conf"), &node).unwrap()
    }

    #[test]
    fn lines_are_read_as_the_server_reads_them() {
        for (line, name, value) in [
            ("max_connections = 100", "max_connections", "100"),
            ("  Work_Mem 4MB # comment", "work_mem", "4MB"),
            ("listen_addresses='localhost,10.0.0.1'", "listen_addresses", "localhost,10.0.0.1"),
            ("a.b = 'it''s \\'so\\' \\\\ \\101\\n'", "a.b", "it's 'so' \\ A\n"),
            ("x = -1", "x", "-1"),
            ("x = 1.5e3", "x", "1.5e3"),
            ("x = .5", "x", ".5"),
            ("x = 0x1F", "x", "0x1F"),
            ("timezone = Europe/Berlin", "timezone", "Europe/Berlin"),
            ("x ''", "x", ""),
        ] {
            assert_eq!(parse_line(line), Ok(Some((name.into(), value.into()))), "{line}");
        }
        for line in [
            "listen_addresses=127.0.0.1",
            "x",
            "x =",
            "= 3",
            "x = 'a",
            "x = a b",
            "x = 1.5GB",
            "9x = 1",
            "x = 1,2",
        ] {
            assert_eq!(parse_line(line), Err("syntax error"), "{line}");
        }
        assert_eq!(parse_line("  # x = 1"), Ok(None));
    }

    #[test]
    fn the_last_of_two_lines_counts() {
        let conf = conf(&[("/c/postgresql.conf", "max_connections = 100\nmax_connections = 20\n")]);
        assert_eq!(conf.last("max_connections").map(|one| (one.value.as_str(), one.line)), Some(("20", 2)));
        assert_eq!(conf.ours, None);
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names_and_what_comes_after_us_is_known() {
        let conf = conf(&[
            ("/c/postgresql.conf", "a = 1\ninclude_dir = 'conf.d'\nb = 2\n"),
            ("/c/conf.d/10-x.conf", "a = 3\nb = 3\n"),
            ("/c/conf.d/99-zz.conf", "c = 4\n"),
            ("/c/conf.d/.hidden.conf", "a = 9\n"),
            ("/c/conf.d/note.txt", "not even a setting = =\n"),
        ]);
        assert!(conf.bad.is_empty());
        assert_eq!(conf.after_us("a"), None);
        assert_eq!(conf.after_us("b").unwrap().file, Path::new("/c/postgresql.conf"));
        assert_eq!(conf.after_us("c").unwrap().file, Path::new("/c/conf.d/99-zz.conf"));
    }

    #[test]
    fn includes_are_relative_to_their_own_file_and_a_circle_ends() {
        let conf = conf(&[
            ("/c/postgresql.conf", "include 'more/a.conf'\ninclude_if_exists 'none'\ninclude '../gone'\n"),
            ("/c/more/a.conf", "include 'b.conf'\n"),
            ("/c/more/b.conf", "x = 1\ninclude '../postgresql.conf'\n"),
        ]);
        assert_eq!(conf.last("x").unwrap().file, Path::new("/c/more/b.conf"));
        assert!(conf.bad.iter().any(|bad| bad.why.contains("too deeply")));
        assert!(conf.bad.iter().any(|bad| bad.why.contains("/gone") && bad.line == 3));
    }

    /// The real server, as somebody else than root, says what it reads: `postgres -C cluster_name`.
    #[test]
    fn a_real_server_reads_lines_as_we_do() {
        let program = Path::new("/usr/lib/postgresql/15/bin/postgres");
        let folder = std::env::temp_dir().join(format!("evenkeel-conf-{}", std::process::id()));
        if !program.exists() || std::fs::create_dir(&folder).is_err() {
            return;
        }
        std::fs::write(folder.join("PG_VERSION"), "15\n").unwrap();
        let nobody = std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).is_ok();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        for value in [
            "'it''s \\'so\\' \\\\ \\101'",
            "1e3",
            "1.5e3",
            "127.0.0.1",
            "Europe/Berlin",
            "a,b",
            "0x1F",
            "60s",
            "1.5s",
            "'x' # y",
            "'x' y",
            "-1",
            "+.5",
            "- 1",
            "'open",
            "a-b.c:d/e",
            "''",
            "x'y'",
            "ä",
        ] {
            let line = format!("cluster_name = {value}");
            std::fs::write(folder.join("postgresql.conf"), format!("{line}\n")).unwrap();
            let mut command = std::process::Command::new(program);
            if nobody {
                std::os::unix::process::CommandExt::uid(&mut command, 65534);
            }
            let told = command.arg("-D").arg(&folder).args(["-C", "cluster_name"]).output().unwrap();
            let real =
                told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim_end().to_owned());
            let ours = parse_line(&line).ok().flatten().map(|(_, value)| value);
            // A cluster's name is printed in ASCII.
            if value.is_ascii() {
                assert_eq!(ours, real, "{line}: {}", String::from_utf8_lossy(&told.stderr));
            } else {
                assert_eq!(ours.is_some(), real.is_some(), "{line}");
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_is_read_again(value in "[^\u{0}-\u{1f}]{0,40}") {
            let line = format!("x = {} # y", quote(&value));
            prop_assert_eq!(parse_line(&line), Ok(Some(("x".to_owned(), value))));
        }

        #[test]
        fn no_line_upsets_the_parser(line in "[-a-z0-9.='\\\\# +_]{0,40}") {
            let _ = parse_line(&line);
        }
    }
}
