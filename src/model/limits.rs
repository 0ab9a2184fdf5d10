//! stub
/// x
#[derive(Debug,Clone,Copy)]
pub enum BreakerState { /// x
 Closed }
