//! `GET /health` and `GET /ready`.
//!
//! *Healthy* means: the process works and can keep its promise to store. *Ready* means:
//! send requests here now. A node that is shutting down is healthy and not ready.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chronos_node::{Alert, NodeStatus};
use serde::Serialize;

use super::error::json_response;
use super::metrics::Kind;
use super::App;

#[derive(Serialize)]
struct Health<'a> {
    /// `ok`; `degraded`: files are damaged, and what needs them is refused; `failed`.
    status: &'static str,
    /// Durability weaker than what people expect of a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// What somebody should look at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alerts: BTreeMap<Alert, String>,
    #[serde(flatten)]
    node: &'a NodeStatus,
}

/// 200 while writes are possible, else 503 with the reason in `fault`.
pub(crate) async fn health(State(app): State<App>) -> Response {
    let request = app.metrics.begin(Kind::Health);
    let node = app.node.status();
    let (code, status) = match node.fault {
        None if node.store.damaged.is_empty() => (StatusCode::OK, "ok"),
        None => (StatusCode::OK, "degraded"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    let warning = node.durability.warning.as_deref();
    let health = Health {
        status,
        warning: warning.map(|text| format!("WARNING: DATA LOSS POSSIBLE: {text}")),
        alerts: app.alerts.active(),
        node: &node,
    };
    let response = json_response(code, &health);
    request.finish(response.status());
    response
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// 200 when statements are answered here, else 503 with a reason.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let request = app.metrics.begin(Kind::Ready);
    let node = app.node.status();
    let reason = if app.is_draining() {
        Some("the node is shutting down".to_owned())
    } else if node.fault.is_some() {
        node.fault
    } else if !node.ready {
        Some("no leader is known".to_owned())
    } else {
        None
    };
    let code = match reason {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = Ready {
        ready: reason.is_none(),
        reason,
    };
    let response = json_response(code, &ready);
    request.finish(response.status());
    response
}
