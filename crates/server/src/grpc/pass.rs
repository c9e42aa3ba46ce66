//! The pass that each call carries, and the gate that looks at it.
//!
//! | metadata | says | the gate refuses |
//! |---|---|---|
//! | `chronos-protocol` | the version of what nodes say to each other | another one |
//! | `chronos-secret` | that the caller belongs here | none, or another one |
//! | `chronos-to` | whom the call is meant for; 0: whoever it is | another number than this node's |
//! | `chronos-sender` | who calls; 0: not a member | this node's own number |
//! | `chronos-cluster` | the caller's cluster; none or empty: unknown | another one, if this node knows its own |

use std::sync::Arc;

use chronos_node::cluster::NodeNumber;
use subtle::ConstantTimeEq as _;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Status};

use super::options::{ClusterId, GrpcOptions, Secret};
use super::rarely::Rarely;

/// The version of what nodes say to each other.
pub(super) const PROTOCOL: u32 = 1;

const PROTOCOL_KEY: &str = "chronos-protocol";
const CLUSTER_KEY: &str = "chronos-cluster";
const SENDER_KEY: &str = "chronos-sender";
const TO_KEY: &str = "chronos-to";
const SECRET_KEY: &str = "chronos-secret";

/// The pass for calls to one node.
#[derive(Debug)]
pub(super) struct Pass {
    cluster_id: Arc<ClusterId>,
    protocol: MetadataValue<Ascii>,
    sender: MetadataValue<Ascii>,
    to: MetadataValue<Ascii>,
    secret: Option<Secret>,
}

impl Pass {
    pub(super) fn new(options: &GrpcOptions, to: NodeNumber) -> Pass {
        Pass {
            cluster_id: Arc::clone(&options.cluster_id),
            protocol: PROTOCOL.into(),
            sender: options.member.number.0.into(),
            to: to.0.into(),
            secret: options.secret.clone(),
        }
    }

    /// A call of this message with the pass.
    pub(super) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(PROTOCOL_KEY, self.protocol.clone());
        metadata.insert(CLUSTER_KEY, self.cluster_id.value());
        metadata.insert(SENDER_KEY, self.sender.clone());
        metadata.insert(TO_KEY, self.to.clone());
        if let Some(secret) = &self.secret {
            metadata.insert(SECRET_KEY, secret.value().clone());
        }
        request
    }
}

/// What looks at passes.
#[derive(Debug)]
pub(super) struct Gate {
    options: GrpcOptions,
    refused: Rarely,
}

impl Gate {
    pub(super) fn new(options: GrpcOptions) -> Gate {
        Gate {
            options,
            refused: Rarely::default(),
        }
    }

    /// Lets a call through, or says why not.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let checked = self.look(metadata);
        if let Err(status) = &checked {
            let sender = number(metadata, SENDER_KEY).unwrap_or_default();
            if self
                .refused
                .is_due(&format!("{sender} {:?}", status.code()))
            {
                tracing::warn!(
                    sender,
                    reason = status.message(),
                    "a node's call is refused"
                );
            }
        }
        checked
    }

    fn look(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let own = &self.options.member;
        let protocol = number(metadata, PROTOCOL_KEY)?;
        if protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "node \"{}\" speaks version {PROTOCOL} of the protocol between nodes, the call is of version {protocol}",
                own.name
            )));
        }
        self.look_at_secret(metadata)?;
        let to = number(metadata, TO_KEY)?;
        if to != 0 && to != own.number.0 {
            return Err(Status::failed_precondition(format!(
                "the call is meant for node {to}, and this is node {} (\"{}\"): look at the addresses of both",
                own.number, own.name
            )));
        }
        let sender = number(metadata, SENDER_KEY)?;
        if sender != 0 && sender == own.number.0 {
            return Err(Status::failed_precondition(format!(
                "the calling node has number {sender}, which is that of this node (\"{}\")",
                own.name
            )));
        }
        self.look_at_cluster(metadata)
    }

    fn look_at_secret(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(secret) = &self.options.secret else {
            return Ok(());
        };
        let shown = metadata.get(SECRET_KEY).map_or(&b""[..], |v| v.as_bytes());
        let is_right: bool = shown.ct_eq(secret.value().as_bytes()).into();
        match is_right {
            true => Ok(()),
            false => Err(Status::unauthenticated(
                "the cluster secret of the calling node is missing, or not that of this node",
            )),
        }
    }

    fn look_at_cluster(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let own = self.options.cluster_id.get();
        let its = match metadata.contains_key(CLUSTER_KEY) {
            true => text(metadata, CLUSTER_KEY)?,
            false => "",
        };
        match own.is_empty() || its.is_empty() || own == its {
            true => Ok(()),
            false => Err(Status::failed_precondition(format!(
                "node \"{}\" belongs to cluster \"{own}\", the calling node to cluster \"{its}\"",
                self.options.member.name
            ))),
        }
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Result<&'a str, Status> {
    let value = metadata.get(key).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Status::failed_precondition(format!("a call without \"{key}\"")))
}

fn number(metadata: &MetadataMap, key: &'static str) -> Result<u32, Status> {
    text(metadata, key)?
        .parse()
        .map_err(|_| Status::failed_precondition(format!("a call whose \"{key}\" is not a number")))
}
