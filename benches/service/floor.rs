//! The floor: the least that an HTTP service can cost that takes such a question and gives such an answer. An axum server as its
//! documentation shows it, with the settings that axum and tokio have of themselves, that parses the body into a struct, decides nothing, and
//! writes a small answer.

use std::io::Read;

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Outcome, say};

/// Where it answers.
pub const PATH: &str = "/decide";

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed as a decision would need it, but nothing is decided")]
struct Question {
    session_id: String,
    message_id: String,
    platform: String,
    text: String,
    busy_since_ms: u64,
    active_tool: Option<String>,
    recent: Vec<Recent>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "as above")]
struct Recent {
    role: String,
    content: String,
}

#[derive(Serialize)]
struct Answer {
    action: &'static str,
    source: &'static str,
    confidence: f64,
    request_id: String,
}

/// Serves until standard input ends, which is when the process that started it does.
pub fn serve() -> Outcome<()> {
    std::thread::spawn(|| {
        // Whatever ends the pipe, it has ended.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        say(&format!("listening on http://{}", listener.local_addr()?));
        let listener = listener.tap_io(|stream| {
            // Without it answers may wait, which would show as nothing but a slower floor.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, axum::Router::new().route(PATH, post(decide))).await?;
        Ok(())
    })
}

async fn decide(body: Bytes) -> Response {
    let Ok(question) = serde_json::from_slice::<Question>(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    let answer = Answer { action: "queue", source: "floor", confidence: 0.5, request_id: question.message_id };
    match serde_json::to_vec(&answer) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
