//! What a person or a program is told: verdict lines, summaries, differences from what was expected, effective routes and
//! rules in Azure's shapes, and the walk of one packet explained.

pub mod ask;
pub mod bench;
pub mod expect;
pub mod explain;
pub mod find;
mod hints;
pub mod json;
pub mod meters;
pub mod routes;
pub mod rules;
pub mod style;
pub mod summary;
pub mod table;
pub mod verdict;
pub mod walk;

pub use style::Style;
pub use summary::Summary;
pub use table::Table;
pub use verdict::{Time, VerdictLine};
