//! The cluster, as servers and the command line hold it.

use std::sync::Arc;

use crate::replica::Replica;
use crate::Error;

use super::{AdminRequest, ClusterStatus, Peer};

/// A handle to the cluster that a node belongs to.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) replica: Arc<Replica>,
}

impl Cluster {
    /// The cluster at this moment, as this node sees it.
    pub fn status(&self) -> ClusterStatus {
        self.replica.cluster_status()
    }

    /// Asks members where clients reach them, if that is not known or was asked a while ago. Meant to
    /// be called again and again.
    pub async fn ask_addresses(&self) {
        self.replica.ask_addresses().await;
    }

    /// Has the leader do something, wherever it is. Returns when it is committed.
    ///
    /// Errors: it cannot be done, there is no leader (57P03), or nobody knows whether it was
    /// done (08007).
    pub async fn request(&self, request: AdminRequest) -> Result<(), Error> {
        self.replica.administer(request).await
    }

    /// What closing a node begins with, for whoever may not block: lets another node lead, and gives
    /// what was proposed a moment.
    #[doc(hidden)]
    pub async fn wind_down(&self) {
        self.replica.winding_down().await;
    }

    /// The receiving side of calls between nodes.
    pub fn service(&self) -> Arc<dyn Peer> {
        self.replica.peer_service()
    }
}
