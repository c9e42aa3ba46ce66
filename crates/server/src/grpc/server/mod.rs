//! The called side: connections of other nodes, and what is served on them.
//!
//! Besides the calls of nodes, `grpc.health.v1` and reflection are served, to whoever gets a
//! connection: with mTLS that takes a certificate.
//!
//! When the node stops, streams end with `UNAVAILABLE`, other calls are waited for, and after a
//! while connections are cut.

mod connections;
mod incoming;
mod service;

use std::future::Future;
use std::io;
use std::sync::Arc;

use chronos_node::cluster::Peer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::service::Routes;
use tonic::Request;
use tonic_health::server::HealthReporter;
use tonic_health::ServingStatus;

use super::options::GrpcOptions;
use super::pass::Gate;
use super::pb::replication_server::{ReplicationServer, SERVICE_NAME};
use super::DESCRIPTORS;
use service::Service;

/// Serves calls of other nodes until `shutdown` is ready.
///
/// Errors: connections cannot be accepted any more.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn Peer>,
    options: GrpcOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let stopping = CancellationToken::new();
    let gate = Arc::new(Gate::new(options.clone()));
    let nodes = ReplicationServer::new(Service::new(service, &options, stopping.clone()))
        .max_decoding_message_size(options.message_bytes_max)
        .max_encoding_message_size(options.message_bytes_max);
    let checked = move |request: Request<()>| gate.check(request.metadata()).map(|()| request);
    let routes = Routes::new(InterceptedService::new(nodes, checked))
        .add_service(health)
        .add_service(
            reflection()
                .build_v1()
                .expect("the checked-in description is valid"),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("the checked-in description is valid"),
        )
        .prepare();
    let shutdown = async {
        tokio::select! {
            () = shutdown => {}
            never = tell_ready(&reporter, options.ready.clone()) => match never {},
        }
        tell(&reporter, false).await;
        stopping.cancel();
    };
    connections::run(listener, routes, &options, shutdown).await
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Keeps what `grpc.health.v1` says true.
async fn tell_ready(
    reporter: &HealthReporter,
    mut ready: watch::Receiver<bool>,
) -> std::convert::Infallible {
    loop {
        let is_ready = *ready.borrow_and_update();
        tell(reporter, is_ready).await;
        if ready.changed().await.is_err() {
            // Nobody is left who could say something else.
            std::future::pending::<()>().await;
        }
    }
}

/// Of the server as a whole (the empty name) and of the service by its name.
async fn tell(reporter: &HealthReporter, is_ready: bool) {
    let status = match is_ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    for name in ["", SERVICE_NAME] {
        reporter.set_service_status(name, status).await;
    }
}
