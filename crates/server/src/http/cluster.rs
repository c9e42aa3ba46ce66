//! The cluster over HTTP: who belongs to it, and changes of that.
//!
//! ```text
//!   GET  /cluster                                           anybody who may read
//!   POST /init                                              \
//!   POST /add-learner        {"id": "n4", "addr": "d:8000", "auto_promote": true}
//!   POST /change-membership  ["n1", 2, "n3"]                 > admins
//!   POST /remove             {"id": "n4"}
//!   POST /transfer-leader    {"id": "n2"}, or nothing       /
//! ```
//!
//! Each may be sent to any member: what only the leader can do is handed to it. A change is
//! answered when it is committed, with the cluster as this node sees it then.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chronos_model::{Role, SqlState};
use chronos_node::cluster::{AdminRequest, ClusterStatus, Member, NodeNumber};
use chronos_node::Identity;
use serde::{Deserialize, Serialize};

use super::auth;
use super::body::read_body;
use super::error::{json_response, Failure};
use super::metrics::Kind;
use super::App;

/// Largest body of these requests.
const BODY_MAX_BYTES: usize = 64 << 10;
/// How often, and how often at most, it is looked whether a leader is known after a change.
const LEADER_LOOK_EVERY: Duration = Duration::from_millis(20);
const LEADER_LOOKS: u32 = 100;

/// A member by its name or its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Named {
    Number(u32),
    Name(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddLearner {
    id: Named,
    addr: String,
    #[serde(default)]
    auto_promote: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ChangeMembership {
    Voters(Vec<Named>),
    Object(VotersObject),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VotersObject {
    voters: Vec<Named>,
    #[serde(default)]
    remove: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    id: Named,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AtMostOne {
    #[serde(default)]
    id: Option<Named>,
}

/// `GET /cluster`
pub(super) async fn get(State(app): State<App>) -> Response {
    let request = app.metrics.begin(Kind::Cluster);
    let response = json_response(StatusCode::OK, &app.node.cluster().status());
    request.finish(response.status());
    response
}

/// `POST /init`: a node belongs to a cluster from its start on, so there is nothing to do, unless
/// it waits to be added to one.
pub(super) async fn init(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Response {
    answer(&app, &identity, async {
        match app.node.cluster().status().members.is_empty() {
            false => Ok(()),
            true => Err(Failure::new(
                StatusCode::CONFLICT,
                SqlState::FEATURE_NOT_SUPPORTED,
                "this node waits to be added to a cluster",
            )
            .with_hint("A cluster begins with: chronos node --bootstrap, or --peers.")),
        }
    })
    .await
}

/// `POST /add-learner`
pub(super) async fn add_learner(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &identity, async {
        let given: AddLearner = read(&app, &headers, body).await?;
        let (_, port) = given.addr.rsplit_once(':').unwrap_or_default();
        if !port.parse::<u16>().is_ok_and(|port| port != 0) {
            let message = format!("\"{}\" is no address: expected host:port", given.addr);
            return Err(Failure::bad_request(message));
        }
        let name = match given.id {
            Named::Name(name) => name,
            Named::Number(number) => number.to_string(),
        };
        let member = Member::new(&name, &given.addr);
        let request = AdminRequest::AddLearner {
            member: member.map_err(|e| Failure::bad_request(e.to_string()))?,
            auto_promote: given.auto_promote,
        };
        carry_out(&app, request).await
    })
    .await
}

/// `POST /change-membership`
pub(super) async fn change_membership(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &identity, async {
        let (named, remove) = match read(&app, &headers, body).await? {
            ChangeMembership::Voters(voters) => (voters, false),
            ChangeMembership::Object(object) => (object.voters, object.remove),
        };
        if named.is_empty() {
            return Err(Failure::bad_request("a cluster without voters is none"));
        }
        let status = app.node.cluster().status();
        let voters: Result<Vec<_>, _> = named.iter().map(|one| member(&status, one)).collect();
        let mut voters = voters?;
        voters.sort_unstable();
        voters.dedup();
        carry_out(&app, AdminRequest::ChangeMembership { voters, remove }).await
    })
    .await
}

/// `POST /remove`
pub(super) async fn remove(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &identity, async {
        let One { id } = read(&app, &headers, body).await?;
        let node = member(&app.node.cluster().status(), &id)?;
        carry_out(&app, AdminRequest::Remove { node }).await
    })
    .await
}

/// `POST /transfer-leader`
pub(super) async fn transfer_leader(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &identity, async {
        let bytes = whole(&app, &headers, body).await?;
        let given: AtMostOne = match bytes.is_empty() {
            true => AtMostOne::default(),
            false => parsed(&bytes)?,
        };
        let status = app.node.cluster().status();
        let to = given.id.map(|id| member(&status, &id)).transpose()?;
        carry_out(&app, AdminRequest::TransferLeader { to }).await
    })
    .await
}

/// Does something for an admin, and answers with the cluster as it is then.
async fn answer(
    app: &App,
    identity: &Identity,
    work: impl std::future::Future<Output = Result<(), Failure>>,
) -> Response {
    let request = app.metrics.begin(Kind::Cluster);
    let done = match auth::demand(app, identity, Role::Admin) {
        Ok(()) => work.await,
        Err(failure) => Err(failure),
    };
    let response = match done {
        Ok(()) => json_response(StatusCode::OK, &with_leader(app).await),
        Err(failure) => failure.into_response(),
    };
    request.finish(response.status());
    response
}

/// The cluster, once a leader is known, or after a while without: who asks for a change of it wants
/// to see it done.
async fn with_leader(app: &App) -> ClusterStatus {
    let mut status = app.node.cluster().status();
    for _ in 0..LEADER_LOOKS {
        if status.leader.is_some() {
            break;
        }
        tokio::time::sleep(LEADER_LOOK_EVERY).await;
        status = app.node.cluster().status();
    }
    status
}

async fn carry_out(app: &App, request: AdminRequest) -> Result<(), Failure> {
    tracing::info!(?request, "asked over HTTP");
    Ok(app.node.cluster().request(request).await?)
}

async fn whole(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    read_body(headers, body, BODY_MAX_BYTES, app.options.body_timeout).await
}

async fn read<T: for<'de> Deserialize<'de>>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Failure> {
    parsed(&whole(app, headers, body).await?)
}

fn parsed<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|e| Failure::bad_request(format!("the body cannot be read: {e}")))
}

/// The number of a member.
///
/// Errors: 404, there is none of this name or number.
fn member(status: &ClusterStatus, named: &Named) -> Result<NodeNumber, Failure> {
    let found = status.members.iter().find(|member| match named {
        Named::Number(number) => member.number.0 == *number,
        Named::Name(name) => member.id == *name || member.number.to_string() == *name,
    });
    let shown = match named {
        Named::Number(number) => number.to_string(),
        Named::Name(name) => format!("\"{name}\""),
    };
    found.map(|member| member.number).ok_or_else(|| {
        let names: Vec<&str> = status.members.iter().map(|m| m.id.as_str()).collect();
        Failure::new(
            StatusCode::NOT_FOUND,
            SqlState::UNDEFINED_OBJECT,
            format!("{shown} is no member of the cluster"),
        )
        .with_hint(format!("Members: {}.", names.join(", ")))
    })
}
