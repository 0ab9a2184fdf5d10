//! The real service from outside: every test starts the built program on a free port, talks HTTP to it, and holds its answers to the
//! sentences of the protocol. One binary, so that it is linked once; modules by subject.
//!
//! No test sleeps to be right. What must happen is waited for by [`harness::eventually`], which fails after a while; what must not happen is
//! shown by something that comes after it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "that is how a test fails")]
#![allow(clippy::items_after_statements, clippy::too_many_lines, reason = "a table of cases reads best in one piece")]
#![allow(clippy::large_futures, clippy::needless_pass_by_value, reason = "what is convenient to write is fast enough here")]

#[path = "../support/upstream.rs"]
mod upstream;

mod docs;
mod harness;
mod wire;

mod config;
mod http;
mod model_faults;
mod pages;
mod properties;
mod races;
mod route;
mod tasks;
