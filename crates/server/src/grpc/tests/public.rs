//! What foreign clients ask: `grpc.health.v1` and reflection.

use futures::{stream, StreamExt as _};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::ServerReflectionRequest;

use super::{callee, within, Called};
use crate::grpc::{GrpcOptions, Secret};

/// A connection of a foreign client.
pub(super) async fn channel(called: &Called) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", called.address)).unwrap();
    within(endpoint.connect()).await.unwrap()
}

const SERVICE: &str = "chronos.replication.v1.Replication";

#[tokio::test]
async fn health_says_whether_the_node_is_ready() {
    let (ready, is_ready) = watch::channel(false);
    let called = Called::start(GrpcOptions {
        ready: is_ready,
        // Probes do not know it.
        secret: Some(Secret::new("s3cret")),
        ..callee()
    })
    .await;
    let mut client = HealthClient::new(channel(&called).await);
    for service in ["", SERVICE] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let watched = client.watch(request.clone()).await.unwrap();
        let mut watched = watched.into_inner();
        for (told, expected) in [
            (false, ServingStatus::NotServing),
            (true, ServingStatus::Serving),
            (false, ServingStatus::NotServing),
        ] {
            ready.send(told).unwrap();
            within(async { while watched.next().await.unwrap().unwrap().status() != expected {} })
                .await;
            let checked = client.check(request.clone()).await.unwrap();
            assert_eq!(checked.into_inner().status(), expected);
        }
    }
    let unknown = HealthCheckRequest {
        service: "chronos.replication.v0.Replication".into(),
    };
    let status = client.check(unknown).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn reflection_describes_the_service() {
    let called = Called::start(callee()).await;
    let mut client = ServerReflectionClient::new(channel(&called).await);
    let ask = |question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let questions = stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(format!(
            "{SERVICE}.AppendStream"
        ))),
    ]);
    let answers = client.server_reflection_info(questions).await.unwrap();
    let answers: Vec<_> = within(answers.into_inner().collect()).await;
    let answer = |n: usize| {
        let answer: &Result<_, tonic::Status> = &answers[n];
        let answer: &tonic_reflection::pb::v1::ServerReflectionResponse = answer.as_ref().unwrap();
        answer.message_response.clone().unwrap()
    };
    let MessageResponse::ListServicesResponse(services) = answer(0) else {
        panic!("{answers:?}");
    };
    let names: Vec<_> = services.service.iter().map(|s| s.name.as_str()).collect();
    for name in [SERVICE, "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let MessageResponse::FileDescriptorResponse(files) = answer(1) else {
        panic!("{answers:?}");
    };
    assert_eq!(files.file_descriptor_proto.len(), 1);
}

/// Who waits for the node to come back sees that it goes.
#[tokio::test]
async fn a_node_that_stops_does_not_serve() {
    let called = Called::start(callee()).await;
    let mut client = HealthClient::new(channel(&called).await);
    let watched = client.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watched = watched.into_inner();
    let first = within(watched.next()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let stopped = tokio::spawn(called.stop());
    let next = within(watched.next()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    // The watching stream never ends by itself: it is cut.
    within(stopped).await.unwrap().unwrap();
}
