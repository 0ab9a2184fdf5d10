//! The endpoints.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use futures_util::FutureExt;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;

use super::auth::Scope;
use super::error::ApiError;
use super::{App, Live, body};
use crate::protocol::{
    CompletionRequest, CompletionResponse, Decision, Mode, Problem, RouteRequest, StatusRequest, StatusResponse, Validate,
};
use crate::tasks::{completion, status};
use crate::telemetry::logs;

/// Room for an answer: most take 500 to 700 bytes.
const ANSWER_BYTES: usize = 1024;

/// The document that `/openapi.json` and `busy-router openapi` give.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "busy-router",
        description = "Decides what should happen to a chat message that arrives while an AI agent is busy. The router never talks to users, never holds messages and never executes anything: it answers one question, and the gateway acts."
    ),
    paths(route, task_status, task_completion, livez, readyz, metrics, openapi)
)]
pub struct ApiDoc;

/// The document as pretty JSON.
#[must_use]
pub fn openapi_json() -> String {
    // A document made of strings and maps always has a JSON form.
    let mut json = serde_json::to_string_pretty(&ApiDoc::openapi()).unwrap_or_default();
    json.push('\n');
    json
}

/// All endpoints over one service.
pub fn router(app: Arc<App>) -> axum::Router {
    let only = |methods: MethodRouter<Arc<App>>, allowed: &'static str| {
        methods.fallback(move || async move { ApiError::MethodNotAllowed(allowed) })
    };
    axum::Router::new()
        .route("/v1/route", only(post(route), "POST"))
        .route("/v1/tasks/status", only(post(task_status), "POST"))
        .route("/v1/tasks/completion", only(post(task_completion), "POST"))
        .route("/livez", only(get(livez), "GET, HEAD"))
        .route("/readyz", only(get(readyz), "GET, HEAD"))
        .route("/metrics", only(get(metrics), "GET, HEAD"))
        .route("/openapi.json", only(get(openapi), "GET, HEAD"))
        .fallback(|| async { ApiError::NotFound })
        .with_state(app)
}

/// What should happen to a message.
#[utoipa::path(
    post,
    path = "/v1/route",
    request_body = RouteRequest,
    responses(
        (status = 200, body = Decision),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Shutting down")
    )
)]
async fn route(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(&app, "route", request, async |live: &Live, request: RouteRequest| {
        let decision = app.router.route(&live.prepared, &request).await;
        let known = live.prepared.commands(&request.session.gateway).is_some();
        app.metrics.decision(&decision, &request.session.gateway, known);
        logs::decision(&request, &decision, live.prepared.settings.log.include_text);
        if let Some(journal) = live.journal.as_ref().filter(|_| decision.mode != Mode::Off) {
            journal.decision(&request, &decision);
        }
        decision
    })
    .await
}

/// What state a background task is really in.
#[utoipa::path(
    post,
    path = "/v1/tasks/status",
    request_body = StatusRequest,
    responses((status = 200, body = StatusResponse), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn task_status(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(&app, "tasks_status", request, async |_live: &Live, request: StatusRequest| {
        let response = status::answer(&request, &app.tasks);
        app.metrics.task("status", response.rule.as_str());
        tracing::info!(task_id = %request.task_id, session_id = request.session_id.as_deref(), status = response.status.as_str(), rule = response.rule.as_str(), "task status");
        response
    })
    .await
}

/// Where a finished task's result goes.
#[utoipa::path(
    post,
    path = "/v1/tasks/completion",
    request_body = CompletionRequest,
    responses((status = 200, body = CompletionResponse), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn task_completion(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(&app, "tasks_completion", request, async |live: &Live, request: CompletionRequest| {
        let steer = live.prepared.settings.actions.steer == crate::config::Permission::Execute;
        let response = completion::decide(&request, &app.tasks, steer);
        app.metrics.task("completion", response.rule.as_str());
        tracing::info!(
            task_id = %request.task.id,
            delivery = response.delivery.as_str(),
            rule = response.rule.as_str(),
            duplicate = response.duplicate,
            telemetry = %response.telemetry.note,
            "task completion"
        );
        if let Some(journal) = &live.journal {
            journal.completion(&request, &response);
        }
        response
    })
    .await
}

/// The process is alive.
#[utoipa::path(get, path = "/livez", responses((status = 200, description = "Alive")))]
async fn livez() -> &'static str {
    "ok\n"
}

/// The service takes requests.
#[utoipa::path(get, path = "/readyz", responses((status = 200, description = "Ready"), (status = 503, description = "Shutting down")))]
async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.is_draining() { ApiError::Draining.into_response() } else { "ok\n".into_response() }
}

/// Prometheus metrics.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "Prometheus text"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "With `[metrics] require_token = true`")
    )
)]
async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let live = app.live.load();
    if live.prepared.settings.metrics.require_token
        && let Err(error) = live.tokens.authorize(request.headers(), Scope::Admin)
    {
        return error.into_response();
    }
    let text = app.metrics.render(live.prepared.model.breaker_state());
    ([(CONTENT_TYPE, HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"))], text)
        .into_response()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "The `OpenAPI` document")))]
async fn openapi() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], openapi_json()).into_response()
}

/// The way of every POST request: may it, can it, what does it say, and what is the answer. One configuration from end to end.
async fn answer<T, R>(
    app: &App,
    endpoint: &'static str,
    request: Request<Body>,
    decide: impl AsyncFnOnce(&Live, T) -> R,
) -> Response
where
    T: DeserializeOwned + Validate,
    R: Serialize,
{
    let live = app.live.load_full();
    let result = async {
        if app.is_draining() {
            return Err(ApiError::Draining);
        }
        let (parts, body) = request.into_parts();
        live.tokens.authorize(&parts.headers, Scope::Route)?;
        let _slot = app.in_flight.try_acquire().map_err(|_| ApiError::TooManyRequests)?;
        let bytes = body::read(&parts.headers, body, &live.prepared.settings.server).await?;
        let value: T = body::parse(&bytes)?;
        // A bug in a rule must not take the connection down with it: the gateway gets an answer that it can act on.
        let response = AssertUnwindSafe(decide(&live, value)).catch_unwind().await.map_err(|_| ApiError::Internal)?;
        let mut json = Vec::with_capacity(ANSWER_BYTES);
        serde_json::to_writer(&mut json, &response).map(|()| json).map_err(|_| ApiError::Internal)
    }
    .await;
    match result {
        Ok(json) => {
            let mut response = Response::new(Body::from(json));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => {
            let status: StatusCode = error.status();
            app.metrics.error(endpoint, status.as_u16());
            if error == ApiError::Internal {
                tracing::error!(endpoint, "the router failed on a request");
            } else {
                tracing::debug!(endpoint, status = status.as_u16(), "request refused");
            }
            error.into_response()
        }
    }
}
