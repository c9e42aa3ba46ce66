//! Where clients reach a member, beside the address at which other nodes do.

use serde::{Deserialize, Serialize};

/// Where clients reach a member, as `host:port`, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAddresses {
    /// HTTP.
    #[serde(
        rename = "http_address",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub http: Option<String>,
    /// PostgreSQL's protocol.
    #[serde(
        rename = "pg_address",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub pg: Option<String>,
}
