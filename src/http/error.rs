//! Errors as responses: every one of them a problem document that says how to mend it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::protocol::{FieldError, Problem};

/// The media type of problem documents (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Everything that a request can be refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The body is no JSON.
    MalformedJson(String),
    /// The body was cut off or could not be read.
    UnreadableBody(String),
    /// The body took too long to arrive; the limit in milliseconds.
    SlowBody(u64),
    /// The body is larger than the limit in bytes.
    BodyTooLarge(usize),
    /// The body is not declared as JSON.
    NotJson,
    /// Fields are wrong or missing.
    InvalidFields(Vec<FieldError>),
    /// No token, or one that is not known.
    Unauthorized,
    /// A known token without the scope that this needs.
    Forbidden(&'static str),
    /// No such path.
    NotFound,
    /// The path exists, but not with this method; the methods that it has.
    MethodNotAllowed(&'static str),
    /// Too many requests at once.
    TooManyRequests,
    /// The service is shutting down.
    Draining,
    /// A bug.
    Internal,
}

impl ApiError {
    fn parts(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::MalformedJson(why) => (StatusCode::BAD_REQUEST, "malformed_json", format!("The body is not valid JSON: {why}")),
            Self::UnreadableBody(why) => {
                (StatusCode::BAD_REQUEST, "unreadable_body", format!("The body could not be read: {why}"))
            }
            Self::SlowBody(ms) => (
                StatusCode::REQUEST_TIMEOUT,
                "slow_body",
                format!("The body did not arrive within {ms} ms (server.body_timeout_ms); send it again in one piece."),
            ),
            Self::BodyTooLarge(limit) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("The body is larger than {limit} bytes (server.max_body_bytes); cut long texts and history."),
            ),
            Self::NotJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "The body must be JSON; send it with `content-type: application/json`.".to_owned(),
            ),
            Self::InvalidFields(errors) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_field",
                match errors.as_slice() {
                    [one] => format!("{} {}", if one.pointer.is_empty() { "The document" } else { &one.pointer }, one.detail),
                    many => format!("{} fields are wrong; see `errors`.", many.len()),
                },
            ),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "This needs a token; send `authorization: Bearer TOKEN`.".to_owned())
            }
            Self::Forbidden(scope) => {
                (StatusCode::FORBIDDEN, "forbidden", format!("This token does not have the scope `{scope}`, which this needs."))
            }
            Self::NotFound => {
                (StatusCode::NOT_FOUND, "not_found", "There is nothing at this path; see /openapi.json.".to_owned())
            }
            Self::MethodNotAllowed(allowed) => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("This path takes {allowed} only."))
            }
            Self::TooManyRequests => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "Too many requests are under way (server.max_in_flight); try again in a second.".to_owned(),
            ),
            Self::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                "The service is shutting down; do what you would do without it.".to_owned(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The router failed on this request; do what you would do without it, and please report it.".to_owned(),
            ),
        }
    }

    /// The status code of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts().0
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, detail) = self.parts();
        let errors = if let Self::InvalidFields(errors) = &self { errors.clone() } else { Vec::new() };
        let problem = Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail,
            code,
            errors,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self {
            Self::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::TooManyRequests | Self::Draining => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::MethodNotAllowed(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ => {}
        }
        response
    }
}
