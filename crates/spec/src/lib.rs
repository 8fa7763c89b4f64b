//! evenkeel's spec language: from the text of a repository to the merged spec of one node.
//!
//! Pure: it is handed bytes in a [`Bundle`] and a table of kinds, and knows no disk, no network and no clock. It knows no
//! kind by name either. A repository is taken whole or refused whole, with every problem at its line.

mod across;
mod bundle;
mod codes;
mod derive;
mod document;
mod explain;
mod fleet;
mod layers;
mod ledger;
mod machine;
mod paths;
mod payload;
mod problem;
mod render;
mod repository;
mod scalar;
mod schema;
mod section;
mod select;
mod shape;
mod show;
mod speak;
mod substitute;
mod survey;
mod table;
mod tree;
mod yaml;

pub use bundle::{Bundle, Entry, wants_path};
pub use codes::CODES;
pub use evenkeel_core::Severity;
pub use explain::{Explained, Explanation, Voiced, Worked};
pub use paths::{End, Path};
pub use problem::{Problem, Problems};
pub use repository::{NodeError, Repository};
pub use schema::schemas;
pub use section::read_section;
pub use select::Selector;
pub use table::Kinds;
