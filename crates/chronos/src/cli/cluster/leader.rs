//! Finding the leader of a cluster, and again when it is another one.
//!
//! Every node answers `/health` with who leads and who is a member, to anybody. Whoever is known
//! is asked in turn until one says that it leads, or names one that does.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::Uri;
use serde::Deserialize;

use crate::cli::args::HostPort;
use crate::cli::http::Client;

/// How long a leader is looked for: an election takes a few seconds where links are slow.
const SEARCH_TIME: Duration = Duration::from_secs(30);
/// Between rounds of asking.
const PAUSE: Duration = Duration::from_millis(200);
/// Members that are remembered.
const KNOWN_MAX: usize = 64;

/// Nodes of a cluster whose leader is followed, by their gRPC addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Following {
    known: Vec<HostPort>,
}

/// A leader that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Found {
    /// Its name.
    pub(in crate::cli) id: String,
    /// Where PostgreSQL clients connect.
    pub(in crate::cli) pg: HostPort,
}

/// Of `/health`, what is of interest here.
#[derive(Debug, Default, Deserialize)]
struct Health {
    #[serde(default)]
    node_id: String,
    #[serde(default)]
    role: String,
    pg_address: Option<String>,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Debug, Default, Deserialize)]
struct Cluster {
    leader_address: Option<String>,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    address: String,
}

/// What an answer makes of the search.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Found(Found),
    /// It names somebody else.
    Ask(HostPort),
    /// It knows no leader.
    Nothing,
}

impl Following {
    /// The cluster of the node with this gRPC address.
    pub(in crate::cli) fn of(first: HostPort) -> Following {
        Following { known: vec![first] }
    }

    /// The leader. `None`: nobody who is known answers HTTP. Waits for an election, but not for
    /// nodes of which none answers the first time.
    pub(in crate::cli) async fn find_first(&mut self) -> Option<Found> {
        match self.round().await {
            Round::Found(found) => Some(found),
            Round::Silence => None,
            Round::NoLeader => self.find().await,
        }
    }

    /// The leader, looked for among all that are known for a while.
    pub(in crate::cli) async fn find(&mut self) -> Option<Found> {
        let search = async {
            loop {
                if let Round::Found(found) = self.round().await {
                    return found;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(SEARCH_TIME, search).await.ok()
    }

    /// Asks everybody once, and whoever is named meanwhile.
    async fn round(&mut self) -> Round {
        let client = Client::new();
        let mut waiting: VecDeque<HostPort> = self.known.iter().cloned().collect();
        let mut asked = Vec::new();
        let mut result = Round::Silence;
        while let Some(address) = waiting.pop_front() {
            if asked.contains(&address) {
                continue;
            }
            let health = health(&client, &address).await;
            asked.push(address.clone());
            let Some(health) = health else { continue };
            self.remember(&health);
            match step(&address, &health) {
                Step::Found(found) => return Round::Found(found),
                Step::Ask(leader) => waiting.push_front(leader),
                Step::Nothing => {}
            }
            result = Round::NoLeader;
        }
        result
    }

    fn remember(&mut self, health: &Health) {
        for member in &health.cluster.members {
            match member.address.parse() {
                Ok(address) if !self.known.contains(&address) && self.known.len() < KNOWN_MAX => {
                    self.known.push(address);
                }
                _ => {}
            }
        }
    }
}

/// How a round of asking ended.
enum Round {
    Found(Found),
    NoLeader,
    Silence,
}

async fn health(client: &Client, node: &HostPort) -> Option<Health> {
    let uri: Uri = format!("http://{}/health", node.http_beside())
        .parse()
        .ok()?;
    let answer = client.get(&uri).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

fn step(asked: &HostPort, health: &Health) -> Step {
    if health.role == "leader" {
        let pg = health.pg_address.as_deref().and_then(|a| a.parse().ok());
        let Some(HostPort { port, .. }) = pg else {
            return Step::Nothing;
        };
        // The host by which it was reached: the node may listen at all of its addresses.
        return Step::Found(Found {
            id: health.node_id.clone(),
            pg: HostPort {
                host: asked.host.clone(),
                port,
            },
        });
    }
    let leader = health.cluster.leader_address.as_deref();
    match leader.and_then(|address| address.parse().ok()) {
        Some(leader) if leader != *asked => Step::Ask(leader),
        _ => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cli::args::HTTP_PORT_OFFSET;

    fn health(json: &str) -> Health {
        serde_json::from_str(json).unwrap()
    }

    fn at(address: &str) -> HostPort {
        address.parse().unwrap()
    }

    #[test]
    fn answers_lead_to_the_leader() {
        let leads = r#"{"node_id":"n2","role":"leader","pg_address":"0.0.0.0:5434","cluster":
            {"leader_address":"b:8001","members":[{"address":"a:8000"},{"address":"b:8001"}]}}"#;
        let follows = r#"{"node_id":"n1","role":"follower","pg_address":"0.0.0.0:5433",
            "cluster":{"leader_address":"b:8001","members":[]}}"#;
        assert_eq!(
            step(&at("b:8001"), &health(leads)),
            Step::Found(Found {
                id: "n2".into(),
                pg: at("b:5434"),
            })
        );
        assert_eq!(
            step(&at("a:8000"), &health(follows)),
            Step::Ask(at("b:8001"))
        );
        // It believes that the one who asks it leads, and that one does not: nobody does.
        assert_eq!(step(&at("b:8001"), &health(follows)), Step::Nothing);
        assert_eq!(step(&at("a:8000"), &health("{}")), Step::Nothing);
        let mut following = Following::of(at("a:8000"));
        following.remember(&health(leads));
        assert_eq!(following.known, [at("a:8000"), at("b:8001")]);
    }

    /// A node that answers `/health` with whatever it is told to.
    struct Fake {
        grpc: HostPort,
        health: Arc<Mutex<String>>,
    }

    impl Fake {
        async fn start() -> Fake {
            let listener = loop {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                if listener.local_addr().unwrap().port() > HTTP_PORT_OFFSET {
                    break listener;
                }
            };
            let port = listener.local_addr().unwrap().port() - HTTP_PORT_OFFSET;
            let health = Arc::new(Mutex::new("{}".to_owned()));
            let answers = Arc::clone(&health);
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let body = answers.lock().unwrap().clone();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            Fake {
                grpc: at(&format!("127.0.0.1:{port}")),
                health,
            }
        }

        fn says(&self, role: &str, leader: &HostPort, members: &[&HostPort]) {
            let members: Vec<_> = members
                .iter()
                .map(|m| serde_json::json!({ "address": m.to_string() }))
                .collect();
            let health = serde_json::json!({
                "node_id": format!("at {}", self.grpc),
                "role": role,
                "pg_address": format!("127.0.0.1:{}", self.grpc.port),
                "cluster": { "leader_address": leader.to_string(), "members": members },
            });
            *self.health.lock().unwrap() = health.to_string();
        }
    }

    #[tokio::test]
    async fn the_leader_is_followed() {
        let (first, second) = (Fake::start().await, Fake::start().await);
        let members = [&first.grpc, &second.grpc];
        first.says("follower", &second.grpc, &members);
        second.says("leader", &second.grpc, &members);
        let mut following = Following::of(first.grpc.clone());
        let found = following.find_first().await.unwrap();
        assert_eq!(found.pg, second.grpc);
        // Another leads, and the one that was known from the beginning knows of nobody.
        *first.health.lock().unwrap() = "{}".to_owned();
        let third = Fake::start().await;
        third.says("leader", &third.grpc, &[]);
        second.says("follower", &third.grpc, &members);
        let found = following.find().await.unwrap();
        assert_eq!(found.pg, third.grpc);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut following = Following::of(at(&format!("127.0.0.1:{port}")));
        assert_eq!(following.find_first().await, None);
    }
}
