//! Looks into folders that may lie in mounts, and below them.

use crate::guard::Guard;
use crate::mounting;
use evenkeel_core::{Covered, Fault, FolderQuestion, FolderSeen, chain};
use std::path::Path;

pub(crate) fn folders(guard: &Guard, questions: &[FolderQuestion]) -> Vec<FolderSeen> {
    let one = |question: &FolderQuestion| match mounting::inside(
        guard,
        &question.folder,
        question.sentinel.as_deref(),
    ) {
        Ok(inside) => FolderSeen::Answers(inside),
        Err(fault) => FolderSeen::Trouble(chain(&fault)),
    };
    questions.iter().map(one).collect()
}

pub(crate) fn covered(_guard: &Guard, _folder: &Path) -> Result<Option<Covered>, Fault> {
    Err(Fault::new("not there yet"))
}

pub(crate) fn set_immutable(_guard: &Guard, _folder: &Path, _on: bool) -> Result<(), Fault> {
    Err(Fault::new("not there yet"))
}

pub(crate) fn seed(_guard: &Guard, _folder: &Path, _sentinel: Option<&str>) -> Result<(), Fault> {
    Err(Fault::new("not there yet"))
}
