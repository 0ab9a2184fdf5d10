//! stub
use super::*; use crate::clock::Clock; use crate::config::ConfigError;
/// x
#[derive(Debug)] pub struct OpenAi;
impl OpenAi { /// x
pub fn new(_: &crate::config::Model, _: Clock) -> Result<Self, ConfigError> { Err(ConfigError::of_key("", "stub")) } }
impl Model for OpenAi { fn ask<'a>(&'a self, _: &'a Question<'a>, _d: Instant) -> BoxFuture<'a, Result<Answer, Failure>> { Box::pin(async { Err(Failure::Timeout) }) } }
