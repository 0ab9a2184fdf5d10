//! `busy-router openapi`

use std::process::ExitCode;

use super::{Failure, print};
use crate::http::routes::openapi_json;

/// Prints the `OpenAPI` document.
///
/// # Errors
/// Standard output cannot be written.
pub fn run() -> Result<ExitCode, Failure> {
    print(&openapi_json())?;
    Ok(ExitCode::SUCCESS)
}
