//! evenkeel's spec language: from the text of a repository to the merged spec of one node.
//!
//! Pure: it is handed bytes in a [`Bundle`] and a table of kinds, and knows no disk, no network and no clock. It knows no
//! kind by name either. A repository is taken whole or refused whole, with every problem at its line.

mod bundle;
mod document;
mod fleet;
mod layers;
mod ledger;
mod problem;
mod repository;
mod scalar;
mod section;
mod select;
mod shape;
mod show;
mod speak;
mod survey;
mod table;
mod tree;
mod yaml;

pub use bundle::{Bundle, Entry, wants_path};
pub use evenkeel_core::Severity;
pub use fleet::{End, Live, Path};
pub use problem::{Problem, Problems};
pub use repository::{NodeError, Repository};
pub use section::read_section;
pub use select::Selector;
pub use table::Kinds;
