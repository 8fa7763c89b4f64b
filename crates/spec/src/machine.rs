//! Problems for programs: JSON, and SARIF 2.1.0 for code review.

use crate::{CODES, Problem, Problems};
use evenkeel_core::Severity;
use serde_json::{Value, json};

impl Problems {
    /// Every problem as JSON: `{"errors": 1, "warnings": 0, "problems": [{"code": …, "severity": "error", "file": …,
    /// "line": 14, "column": 3, "width": 9, "snippet": …, "message": …, "help": …}]}`. Line and column count from 1, and
    /// are 0 where it is the file as a whole.
    #[must_use]
    pub fn json(&self) -> String {
        let problems: Vec<Value> = self.0.iter().map(Problem::json).collect();
        let sum = json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "problems": problems,
        });
        format!("{sum:#}\n")
    }

    /// Every problem as a SARIF 2.1.0 log, with [`CODES`] as its rules.
    #[must_use]
    pub fn sarif(&self) -> String {
        let rule = |(id, text): &(&str, &str)| json!({"id": id, "shortDescription": {"text": text}});
        let rules: Vec<Value> = CODES.iter().map(rule).collect();
        let results: Vec<Value> = self.0.iter().map(Problem::sarif).collect();
        let driver = json!({"name": "evenkeel", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
        let log = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
        });
        format!("{log:#}\n")
    }
}

impl Problem {
    fn severity_word(&self) -> &'static str {
        if self.severity == Severity::Error { "error" } else { "warning" }
    }

    fn json(&self) -> Value {
        json!({
            "code": self.code,
            "severity": self.severity_word(),
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "width": self.width,
            "snippet": self.snippet,
            "message": self.message,
            "help": self.help,
        })
    }

    fn sarif(&self) -> Value {
        let help = self.help.iter().map(|help| format!("; {help}"));
        let text: String = std::iter::once(self.message.clone()).chain(help).collect();
        let mut place = json!({"artifactLocation": {"uri": uri(&self.file)}});
        if self.line > 0 {
            let end = self.column + self.width;
            let snippet = json!({"text": self.snippet});
            place["region"] = json!({
                "startLine": self.line, "startColumn": self.column, "endColumn": end, "snippet": snippet,
            });
        }
        let index = CODES.iter().position(|(code, _)| *code == self.code);
        json!({
            "ruleId": self.code,
            "ruleIndex": index,
            "level": self.severity_word(),
            "message": {"text": text},
            "locations": [{"physicalLocation": place}],
        })
    }
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(byte)),
            byte => uri.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    uri
}
