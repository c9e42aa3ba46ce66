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

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{self, Router};
use chronos_model::{Role, SqlState};
use chronos_node::cluster::{AdminRequest, ClusterStatus, Member, NodeNumber};
use chronos_node::Identity;
use serde::{Deserialize, Serialize};

use super::body::read_body;
use super::error::Failure;
use super::metrics::Kind;
use super::{answer, auth, App};

/// Largest body of these requests.
const BODY_MAX_BYTES: usize = 64 << 10;
/// How often, and how often at most, it is looked whether a leader is known after a change.
const LEADER_LOOK_EVERY: Duration = Duration::from_millis(20);
const LEADER_LOOKS: u32 = 100;

/// `GET /cluster`
pub(super) async fn get(State(app): State<App>) -> Response {
    answer::document(&app, Kind::Cluster, async {
        Ok(app.node.cluster().status())
    })
    .await
}

/// The paths of changes.
pub(super) fn changes() -> Router<App> {
    Router::new()
        .route("/init", routing::post(change::<Init>))
        .route("/add-learner", routing::post(change::<AddLearner>))
        .route(
            "/change-membership",
            routing::post(change::<ChangeMembership>),
        )
        .route("/remove", routing::post(change::<Remove>))
        .route("/transfer-leader", routing::post(change::<TransferLeader>))
}

/// What the body of a request asks for. An empty one is `{}`.
trait Change: for<'de> Deserialize<'de> {
    /// What the leader has to do in a cluster like this; `None`: nothing.
    fn request(self, status: &ClusterStatus) -> Result<Option<AdminRequest>, Failure>;
}

/// Has something done for an admin, and answers with the cluster as it is then.
async fn change<C: Change>(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer::document(&app, Kind::Cluster, async {
        auth::demand(&app, &identity, Role::Admin)?;
        let timeout = app.options.body_timeout;
        let bytes = read_body(&headers, body, BODY_MAX_BYTES, timeout).await?;
        let bytes: &[u8] = match bytes.is_empty() {
            true => b"{}",
            false => &bytes,
        };
        let asked: C = serde_json::from_slice(bytes)
            .map_err(|e| Failure::bad_request(format!("the body cannot be read: {e}")))?;
        if let Some(request) = asked.request(&app.node.cluster().status())? {
            tracing::info!(?request, "asked over HTTP");
            app.node.cluster().request(request).await?;
        }
        Ok(with_leader(&app).await)
    })
    .await
}

/// The cluster, once a member is known to lead, or after a while without: who asks for a change of it
/// wants to see it done.
async fn with_leader(app: &App) -> ClusterStatus {
    let mut status = app.node.cluster().status();
    for _ in 0..LEADER_LOOKS {
        if status.leader_id.is_some() {
            break;
        }
        tokio::time::sleep(LEADER_LOOK_EVERY).await;
        status = app.node.cluster().status();
    }
    status
}

/// `POST /init`: a node belongs to a cluster from its start on, so there is nothing to do, unless
/// it waits to be added to one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Init {}

impl Change for Init {
    fn request(self, status: &ClusterStatus) -> Result<Option<AdminRequest>, Failure> {
        match status.members.is_empty() {
            false => Ok(None),
            true => Err(Failure::new(
                StatusCode::CONFLICT,
                SqlState::FEATURE_NOT_SUPPORTED,
                "this node waits to be added to a cluster",
            )
            .with_hint("A cluster begins with: chronos node --bootstrap, or --peers.")),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddLearner {
    id: Named,
    addr: String,
    #[serde(default)]
    auto_promote: bool,
}

impl Change for AddLearner {
    fn request(self, _: &ClusterStatus) -> Result<Option<AdminRequest>, Failure> {
        if !is_address(&self.addr) {
            let message = format!(
                "\"{}\" is no address by which the members reach a node: expected host:port",
                self.addr
            );
            return Err(Failure::bad_request(message));
        }
        let name = match self.id {
            Named::Name(name) => name,
            Named::Number(number) => number.to_string(),
        };
        let member = Member::new(&name, &self.addr);
        Ok(Some(AdminRequest::AddLearner {
            member: member.map_err(|e| Failure::bad_request(e.to_string()))?,
            auto_promote: self.auto_promote,
        }))
    }
}

/// Whether others can find a node there: `host:port`, an IPv6 address in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let in_brackets = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let has_place = match (in_brackets.unwrap_or(host).parse::<IpAddr>(), in_brackets) {
        (Ok(ip), _) if ip.is_unspecified() => false,
        (Ok(ip), in_brackets) => ip.is_ipv6() == in_brackets.is_some(),
        (Err(_), Some(_)) => false,
        (Err(_), None) => {
            let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
            !host.is_empty() && host.chars().all(allowed)
        }
    };
    has_place && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected [\"n1\", 2, ..] or {\"voters\": [..], \"remove\": true}, of names and numbers of members"
)]
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

impl Change for ChangeMembership {
    fn request(self, status: &ClusterStatus) -> Result<Option<AdminRequest>, Failure> {
        let (named, remove) = match self {
            ChangeMembership::Voters(voters) => (voters, false),
            ChangeMembership::Object(object) => (object.voters, object.remove),
        };
        if named.is_empty() {
            return Err(Failure::bad_request("a cluster without voters is none"));
        }
        let voters: Result<Vec<_>, _> = named.iter().map(|one| member(status, one)).collect();
        let mut voters = voters?;
        voters.sort_unstable();
        voters.dedup();
        Ok(Some(AdminRequest::ChangeMembership { voters, remove }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    id: Named,
}

impl Change for Remove {
    fn request(self, status: &ClusterStatus) -> Result<Option<AdminRequest>, Failure> {
        let node = member(status, &self.id)?;
        Ok(Some(AdminRequest::Remove { node }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferLeader {
    #[serde(default)]
    id: Option<Named>,
}

impl Change for TransferLeader {
    fn request(self, status: &ClusterStatus) -> Result<Option<AdminRequest>, Failure> {
        let to = self.id.map(|id| member(status, &id)).transpose()?;
        Ok(Some(AdminRequest::TransferLeader { to }))
    }
}

/// A member by its name or its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name or the number of a member")]
enum Named {
    Number(u32),
    Name(String),
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
