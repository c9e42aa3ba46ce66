//! TLS between nodes: certificates that are good, and others.

use std::sync::Arc;

use chronos_node::cluster::{PeerError, Peers as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{callee, caller, eventually, heartbeat, member, within, Called};
use crate::grpc::{GrpcOptions, GrpcPeers, PeerTls, PeerTlsFiles};
use crate::tls::ClientCertificates;

/// An authority that makes certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { pem, issuer }
    }

    /// Files of a node with a certificate of this authority for that name, which trusts `trusted`.
    fn files(&self, name: &str, trusted: &Authority) -> PeerTlsFiles {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        PeerTlsFiles {
            certificates: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authorities: trusted.pem.clone().into_bytes(),
            callers: ClientCertificates::Required,
            domain: None,
        }
    }
}

fn with(options: GrpcOptions, files: &PeerTlsFiles) -> GrpcOptions {
    GrpcOptions {
        tls: Some(Arc::new(PeerTls::new(files).unwrap())),
        ..options
    }
}

#[tokio::test]
async fn nodes_of_one_authority_talk() {
    let ours = Authority::new("ours");
    let called = Called::start(with(callee(), &ours.files("127.0.0.1", &ours))).await;
    let peer = called.seen_by(with(caller(), &ours.files("n1", &ours)));
    assert!(within(peer.append(heartbeat())).await.is_ok());
}

#[tokio::test]
async fn a_called_node_must_have_a_good_certificate() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let caller = with(caller(), &ours.files("n1", &ours));
    for (files, expected) in [
        (other.files("127.0.0.1", &ours), "UnknownIssuer"),
        (ours.files("elsewhere.example", &ours), "not valid for name"),
    ] {
        let called = Called::start(with(callee(), &files)).await;
        let peer = called.seen_by(caller.clone());
        match within(peer.append(heartbeat())).await {
            Err(PeerError::Refused(why)) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(called.fake.asked(), []);
    }
}

#[tokio::test]
async fn a_name_may_stand_for_all_addresses() {
    let ours = Authority::new("ours");
    let called = Called::start(with(callee(), &ours.files("chronos.example", &ours))).await;
    let mut files = ours.files("n1", &ours);
    files.domain = Some("chronos.example".into());
    let peer = called.seen_by(with(caller(), &files));
    assert!(within(peer.append(heartbeat())).await.is_ok());
}

#[tokio::test]
async fn a_calling_node_must_have_a_good_certificate() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let called = Called::start(with(callee(), &ours.files("127.0.0.1", &ours))).await;
    let stranger = called.seen_by(with(caller(), &other.files("n1", &ours)));
    let failed = within(stranger.append(heartbeat())).await.unwrap_err();
    assert!(
        matches!(&failed, PeerError::Refused(why) if why.contains("TLS")),
        "{failed:?}"
    );
    // Without any certificate: the handshake is done for the client, then comes the alert.
    let roots = crate::tls::authorities(ours.pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(called.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = within(connector.connect(name, tcp)).await.unwrap();
    let failed = within(stream.read_u8()).await.unwrap_err();
    assert!(failed.to_string().contains("ertificate"), "{failed}");
    // In clear.
    let plain = called.seen_by(caller());
    let failed = within(plain.append(heartbeat())).await.unwrap_err();
    assert!(matches!(failed, PeerError::Unreachable(_)), "{failed:?}");
    assert_eq!(called.fake.asked(), []);
}

#[tokio::test]
async fn certificates_of_callers_may_be_optional() {
    let ours = Authority::new("ours");
    let mut files = ours.files("127.0.0.1", &ours);
    files.callers = ClientCertificates::Optional;
    let tls = PeerTls::new(&files).unwrap();
    let called = Called::start(GrpcOptions {
        tls: Some(Arc::new(tls)),
        ..callee()
    })
    .await;
    let peer = called.seen_by(with(caller(), &ours.files("n1", &ours)));
    assert!(within(peer.append(heartbeat())).await.is_ok());
}

#[tokio::test]
async fn other_certificates_count_for_new_connections() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = Arc::new(PeerTls::new(&old.files("127.0.0.1", &old)).unwrap());
    let called = Called::start(GrpcOptions {
        tls: Some(Arc::clone(&tls)),
        ..callee()
    })
    .await;
    let kept = called.seen_by(with(caller(), &old.files("n1", &old)));
    assert!(within(kept.append(heartbeat())).await.is_ok());
    let mut broken = new.files("127.0.0.1", &new);
    broken.key = new.files("127.0.0.1", &new).key;
    assert!(tls.reload(&broken).is_err());
    tls.reload(&new.files("127.0.0.1", &new)).unwrap();
    assert!(within(kept.append(heartbeat())).await.is_ok());
    let late = called.seen_by(with(caller(), &old.files("n1", &old)));
    assert!(within(late.append(heartbeat())).await.is_err());
    let fresh = with(caller(), &new.files("n1", &new));
    let fresh = GrpcPeers::new(fresh).peer(&member(2, &called.address.to_string()));
    eventually(|| async { fresh.append(heartbeat()).await.is_ok() }).await;
}
