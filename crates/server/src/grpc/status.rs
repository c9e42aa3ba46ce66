//! Errors of calls between nodes, as gRPC's status and back. The only place that knows both.
//!
//! | `PeerError` | status |
//! |---|---|
//! | `Unreachable` | `UNAVAILABLE`; and back also `CANCELLED`, and whatever has its cause in the connection |
//! | `TimedOut` | `DEADLINE_EXCEEDED`, with `chronos-ms` |
//! | `Refused` | `FAILED_PRECONDITION`; back also `UNAUTHENTICATED`, `PERMISSION_DENIED`, `UNIMPLEMENTED`, and a failure of TLS |
//! | `Failed` | `INTERNAL`; back also all others |

use std::error::Error;
use std::io;

use chronos_node::cluster::PeerError;
use tonic::{Code, Status};

use super::pb;

/// Metadata of `DEADLINE_EXCEEDED`: how long was waited.
const MS: &str = "chronos-ms";
/// How rustls says that the other side has broken off. It comes through HTTP/2, which keeps only the text.
const ALERT: &str = "received fatal alert";
/// How HTTP/2 says that what came was no frame: TLS answers with an alert.
const NO_FRAME: &str = "frame with invalid size";
/// How deep causes are looked at.
const CAUSES_MAX: usize = 16;

/// The status of an error.
pub(super) fn status(error: PeerError) -> Status {
    match error {
        PeerError::Unreachable(why) => Status::unavailable(why),
        PeerError::TimedOut(ms) => {
            let mut status = Status::deadline_exceeded(format!("no answer within {ms} ms"));
            status.metadata_mut().insert(MS, ms.into());
            status
        }
        PeerError::Refused(why) => Status::failed_precondition(why),
        PeerError::Failed(why) => Status::internal(why),
    }
}

/// The error of one proposal among others.
pub(super) fn failure(error: PeerError) -> pb::Failure {
    let waited_ms = match error {
        PeerError::TimedOut(ms) => ms,
        _ => 0,
    };
    let status = status(error);
    pb::Failure {
        code: status.code() as i32,
        message: status.message().into(),
        waited_ms,
    }
}

/// And back.
pub(super) fn failed(failure: pb::Failure) -> PeerError {
    match Code::from_i32(failure.code) {
        Code::DeadlineExceeded => PeerError::TimedOut(failure.waited_ms),
        code => peer_error(&Status::new(code, failure.message)),
    }
}

/// The error that a status tells of.
pub(super) fn peer_error(status: &Status) -> PeerError {
    if status.source().is_some() {
        return connection_error(status);
    }
    let why = status.message().to_owned();
    match status.code() {
        Code::Unavailable | Code::Cancelled => PeerError::Unreachable(why),
        Code::DeadlineExceeded => {
            let ms = status.metadata().get(MS).and_then(|ms| ms.to_str().ok());
            match ms.and_then(|ms| ms.parse().ok()) {
                Some(ms) => PeerError::TimedOut(ms),
                None => PeerError::Unreachable(why),
            }
        }
        Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented => PeerError::Refused(why),
        _ => PeerError::Failed(why),
    }
}

/// A status that was not sent by the other node but made here. Its message says "transport error";
/// the causes tell more.
fn connection_error(status: &Status) -> PeerError {
    let mut cause: &dyn Error = status;
    let mut text = cause.to_string();
    for _ in 0..CAUSES_MAX {
        if let Some(tls) = tls_error(cause) {
            return PeerError::Refused(format!("TLS: {tls}"));
        }
        let Some(next) = cause.source() else { break };
        cause = next;
        text = cause.to_string();
    }
    match (text.starts_with(ALERT), text.ends_with(NO_FRAME)) {
        (true, _) => PeerError::Refused(format!("TLS: {text}")),
        (false, true) => PeerError::Unreachable(format!(
            "{text}; whoever answers there wants TLS between nodes, or is none"
        )),
        (false, false) => PeerError::Unreachable(text),
    }
}

/// A failure of TLS, which I/O errors carry inside.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let io = cause.downcast_ref::<io::Error>();
    let inside = io.and_then(|io| io.get_ref());
    inside.and_then(|inside| inside.downcast_ref::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back() {
        for error in [
            PeerError::Unreachable("gone".into()),
            PeerError::TimedOut(250),
            PeerError::Refused("another cluster".into()),
            PeerError::Failed("disk full".into()),
        ] {
            assert_eq!(peer_error(&status(error.clone())), error);
            assert_eq!(failed(failure(error.clone())), error);
        }
    }

    #[test]
    fn causes_are_told() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let status = Status::from_error(Box::new(refused));
        assert_eq!(
            peer_error(&status),
            PeerError::Unreachable("connection refused".into())
        );
        let tls = io::Error::other(rustls::Error::NoCertificatesPresented);
        let status = Status::from_error(Box::new(tls));
        assert!(matches!(peer_error(&status), PeerError::Refused(why) if why.contains("TLS")));
    }
}
