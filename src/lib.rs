//! busy-router decides what should happen to a chat message that arrives while an AI agent is busy.
//!
//! A message walks through the house once. [`cli`] and [`http`] take it in and hand the answer out; [`router`] is the decision, step by
//! step; on its way it asks the [`guards`] (rules that a person can read, over the [`lexicon`]), the [`memory`] (was this here before?) and,
//! for what is left, a [`model`], whose answer must pass the [`review`]. [`ack`] words what the user hears. [`config`] holds the settings,
//! [`prepared`] all that derives from them, [`protocol`] the types on the wire, [`tasks`] the two questions about background tasks,
//! [`telemetry`] what the operator sees. [`replay`] measures decisions against labelled cases, [`train`] makes the built-in model from them.

pub mod ack;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod guards;
pub mod http;
mod keys;
pub mod lexicon;
pub mod memory;
pub mod model;
pub mod prepared;
pub mod protocol;
pub mod replay;
pub mod review;
pub mod router;
pub mod tasks;
pub mod telemetry;
pub mod train;
