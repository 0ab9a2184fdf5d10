//! From bytes to a typed request, or to an error that names the field.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::error::ApiError;
use crate::config::Server;
use crate::protocol::{FieldError, Validate};

/// Reads a body within the limits of size and time.
///
/// # Errors
/// Not JSON by its type, too large, too slow, or cut off.
pub async fn read(headers: &HeaderMap, body: Body, limits: &Server) -> Result<Bytes, ApiError> {
    if !is_json(headers) {
        return Err(ApiError::NotJson);
    }
    let limit = limits.max_body_bytes;
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::BodyTooLarge(limit));
    }
    let collected = Limited::new(body, limit).collect();
    match tokio::time::timeout(Duration::from_millis(limits.body_timeout_ms), collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge(limit)),
        Ok(Err(error)) => Err(ApiError::UnreadableBody(error.to_string())),
        Err(_) => Err(ApiError::SlowBody(limits.body_timeout_ms)),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
        || media_type.to_ascii_lowercase().strip_prefix("application/").is_some_and(|subtype| subtype.ends_with("+json"))
}

/// Parses and validates a body.
///
/// # Errors
/// Malformed JSON, or the JSON pointers of what is wrong.
pub fn parse<T: DeserializeOwned + Validate>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take an array for an object with its fields in order; no caller means that.
    if bytes.trim_ascii_start().first() == Some(&b'[') && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return Err(ApiError::InvalidFields(vec![FieldError::new("", "is wrong: must be a JSON object")]));
    }
    let value: T = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        // Finding the path costs a third more time, so it is done only once something is wrong.
        Err(_) => return Err(explain::<T>(bytes)),
    };
    match value.violations() {
        errors if errors.is_empty() => Ok(value),
        errors => Err(ApiError::InvalidFields(errors)),
    }
}

fn explain<T: DeserializeOwned>(bytes: &[u8]) -> ApiError {
    // A document that is no JSON at all is one error, however early a field of it is wrong.
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        return ApiError::MalformedJson(error.to_string());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => ApiError::MalformedJson("trailing characters".to_owned()),
        Err(error) => {
            let mut pointer = String::new();
            for segment in error.path() {
                match segment {
                    Segment::Seq { index } => pointer.extend(["/", &index.to_string()]),
                    Segment::Map { key } | Segment::Enum { variant: key } => {
                        pointer.push('/');
                        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                    }
                    Segment::Unknown => {}
                }
            }
            let message = error.inner().to_string();
            let message = message.split(" at line ").next().unwrap_or(&message);
            if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                ApiError::InvalidFields(vec![FieldError::new(format!("{pointer}/{field}"), "is missing")])
            } else {
                ApiError::InvalidFields(vec![FieldError::new(pointer, format!("is wrong: {message}"))])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RouteRequest;
    use proptest::prelude::*;

    fn pointer_of(json: &str) -> String {
        match parse::<RouteRequest>(json.as_bytes()) {
            Err(ApiError::InvalidFields(errors)) => errors[0].pointer.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        assert_eq!(pointer_of("{}"), "/session");
        assert_eq!(pointer_of(r#"{"session":{}}"#), "/session/id");
        assert_eq!(pointer_of(r#"{"session":{"id":5}}"#), "/session/id");
        assert_eq!(pointer_of(r#"{"session":{"id":"s"},"message":{"text":null}}"#), "/message/text");
        assert_eq!(pointer_of(r#"{"session":{"id":"s"},"message":{"text":"x"},"busy":{"state":"bored"}}"#), "/busy/state");
        assert_eq!(
            pointer_of(
                r#"{"session":{"id":"s"},"message":{"text":"x","media":[{"kind":"photo"},{"kind":"smell"}]},"busy":{"state":"idle"}}"#
            ),
            "/message/media/1/kind"
        );
        assert_eq!(pointer_of("[]"), "");
        assert_eq!(pointer_of(r#"[{"id":"s"},{"text":"x"},{"state":"idle"}]"#), "");
    }

    #[test]
    fn malformed_json_is_told_from_wrong_fields() {
        for json in ["", "{", "nope", "{\"session\": {\"id\": 5}", "{} x", "\u{feff}{}", "{\"a\":NaN}"] {
            assert!(matches!(parse::<RouteRequest>(json.as_bytes()), Err(ApiError::MalformedJson(_))), "{json}");
        }
        assert!(matches!(parse::<RouteRequest>(b"\xff\xfe"), Err(ApiError::MalformedJson(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<RouteRequest>(&bytes);
        }

        #[test]
        fn any_json_is_parsed_or_refused(text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,60}") {
            let json = format!(r#"{{"session":{{"id":"s"}},"message":{{"text":{}}},"busy":{text}}}"#, serde_json::json!(text));
            let _ = parse::<RouteRequest>(json.as_bytes());
        }
    }
}
