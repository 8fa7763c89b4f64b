//! What is wrong with a spec, and where: one problem, and all of them as text for people.

use crate::show;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use evenkeel_core::Severity;

/// Something that is wrong with a spec repository, or looks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which sort of problem it is: one of [`crate::CODES`].
    pub code: &'static str,
    /// Whether the spec is refused for it.
    pub severity: Severity,
    /// The file, from the repository's root.
    pub file: String,
    /// The line, from 1; 0 where it is the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 where it is the file as a whole.
    pub column: u32,
    /// How many characters are meant, from `column` on.
    pub width: u32,
    /// The offending line, control characters escaped, long lines cut; empty where it is the file as a whole.
    pub snippet: String,
    /// Where in `snippet` the offending characters are, in bytes.
    pub caret: (usize, usize),
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// On one line: `tiers/db.yaml:14: …`.
    #[must_use]
    pub fn one_line(&self) -> String {
        let file = show::escaped(&self.file);
        let place = if self.line == 0 { file } else { format!("{file}:{}", self.line) };
        match &self.help {
            Some(help) => format!("{place}: {} ({help})", self.message),
            None => format!("{place}: {}", self.message),
        }
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let level = if self.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
        let title = level.primary_title(self.message.as_str()).id(self.code);
        let path = show::escaped(&self.file);
        let group = if self.line == 0 {
            title.element(annotate_snippets::Origin::path(path))
        } else {
            let mark = AnnotationKind::Primary.span(self.caret.0..self.caret.1);
            let source =
                Snippet::source(self.snippet.as_str()).line_start(self.line as usize).annotation(mark);
            // Where a part of the line is shown, or more than the line, columns are not to be counted in it.
            let column = self.column as usize;
            if self.snippet[..self.caret.0].chars().count() + 1 == column {
                title.element(source.path(path))
            } else {
                let origin =
                    annotate_snippets::Origin::path(path).line(self.line as usize).char_column(column);
                title.element(origin).element(source)
            }
        };
        vec![match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }]
    }
}

/// All that is wrong with a spec repository, in the order of its files and lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether the spec is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are of one severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Every problem with its line shown, and a sum below; empty where there is no problem.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        if self.is_empty() {
            return String::new();
        }
        let renderer = if colour { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
        let mut text = String::new();
        for problem in &self.0 {
            text.push_str(renderer.render(&problem.groups()).trim_end());
            text.push_str("\n\n");
        }
        text + &self.sum() + "\n"
    }

    /// How many errors and warnings, in words.
    #[must_use]
    pub fn sum(&self) -> String {
        let many = |count: usize, word: &str| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            count => Some(format!("{count} {word}s")),
        };
        let counts =
            [many(self.count(Severity::Error), "error"), many(self.count(Severity::Warning), "warning")];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        if counts.is_empty() { "no problems".to_owned() } else { counts.join(", ") }
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text(false).trim_end())
    }
}

impl std::error::Error for Problems {}
