//! Replay: labelled cases through the router, in process or against a running service, and how good its decisions are.
//!
//! [`fixture`] reads the cases (those about background tasks with [`tasks`]), [`run`] has them decided, [`record`] is what is kept of each, [`score`] judges the decisions (figures by [`statistics`], beside the
//! [`baselines`]), [`report`] shows the result and [`compare`] sets it beside an earlier one.

pub mod baselines;
pub mod checkpoint;
pub mod compare;
pub mod fixture;
pub mod pace;
pub mod record;
pub mod report;
pub mod run;
pub mod score;
pub mod statistics;
pub mod tasks;
