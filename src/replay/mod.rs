//! Replay
pub mod fixture;
