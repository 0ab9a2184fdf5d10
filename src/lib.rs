//! busy-router decides what should happen to a chat message that arrives while an AI agent is busy.
pub mod ack;
pub mod clock;
pub mod config;
pub mod guards;
pub mod lexicon;
pub mod memory;
pub mod model;
pub mod prepared;
pub mod protocol;
pub mod replay;
pub mod review;
pub mod router;
pub mod tasks;
