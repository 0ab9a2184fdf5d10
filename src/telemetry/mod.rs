//! What the operator sees: log lines, metrics and the journal.

pub mod journal;
pub mod json;
pub mod lines;
pub mod logs;
pub mod metrics;
