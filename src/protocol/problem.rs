//! Errors as callers see them: RFC 9457 problem details.

use serde::Serialize;
use utoipa::ToSchema;

/// One field of a request that is wrong or missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) of the field, such as `/session/id`; empty for the whole document.
    pub pointer: String,
    /// What is wrong with it and what would be right.
    pub detail: String,
}

impl FieldError {
    /// An error at a pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// The body of every error response (`application/problem+json`).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` because `code` already does.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status code's usual name.
    pub title: &'static str,
    /// The HTTP status code.
    pub status: u16,
    /// What happened this time, and how to mend it.
    pub detail: String,
    /// A stable word to branch on, such as `invalid_field`.
    pub code: &'static str,
    /// The fields that are wrong, when fields are what is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}
