//! Finding the leader of a cluster, and again when it is another one.
//!
//! Every node answers `/health` with who leads and who is a member, to anybody. Whoever is known
//! is asked in turn until one says that it leads, or names one that does: in clear or over TLS, as
//! `sslmode` says of sessions.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::args::HostPort;
use crate::cli::error::CliError;
use crate::cli::http::Client;
use crate::cli::wire::TlsWish;

/// How long a leader is looked for: an election takes a few seconds where links are slow.
const SEARCH_TIME: Duration = Duration::from_secs(30);
/// Between rounds of asking.
const PAUSE: Duration = Duration::from_millis(200);
/// Members that are remembered.
const KNOWN_MAX: usize = 64;

/// Nodes of a cluster whose leader is followed, and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Following {
    known: Vec<Place>,
    tls: TlsWish,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    grpc: HostPort,
    /// As it says itself.
    http: Option<HostPort>,
}

/// A leader that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Found {
    /// Its name.
    pub(in crate::cli) id: String,
    /// Where PostgreSQL clients connect: at the host by which it was reached, as the node may listen
    /// at all of its addresses; else where it says.
    pub(in crate::cli) pg: Vec<HostPort>,
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
    http_address: Option<String>,
}

impl Member {
    fn place(&self) -> Option<Place> {
        let told = self.http_address.as_deref();
        Some(Place {
            grpc: self.address.parse().ok()?,
            http: told.and_then(|told| told.parse().ok()),
        })
    }
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
    pub(in crate::cli) fn of(first: HostPort, tls: TlsWish) -> Following {
        let first = Place {
            grpc: first,
            http: None,
        };
        Following {
            known: vec![first],
            tls,
        }
    }

    /// The leader. Waits for an election, but not for nodes of which none answers the first time.
    ///
    /// Errors: nobody who is known answers HTTP, or knows a leader after a while.
    pub(in crate::cli) async fn find_first(&mut self) -> Result<Found, CliError> {
        let found = match self.round().await {
            Round::Found(found) => return Ok(found),
            Round::Silence => Err("nobody tells who it is"),
            Round::NoLeader => self.find().await.ok_or("its members know none"),
        };
        found.map_err(|reason| {
            let asked = &self.known[0].grpc;
            let urls = self.tls.http_urls(&asked.http_beside());
            let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            CliError::Connect {
                target: format!("the leader of the cluster of {asked}"),
                reason: reason.to_owned(),
                hint: format!(
                    "\n--leader takes the gRPC address of a member that runs, which is asked at {}.",
                    urls.join(" and ")
                ),
            }
        })
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
        let client = Client::as_wished(&self.tls);
        let mut waiting: VecDeque<HostPort> = self.known.iter().map(|p| p.grpc.clone()).collect();
        let mut asked = Vec::new();
        let mut result = Round::Silence;
        while let Some(grpc) = waiting.pop_front() {
            if asked.contains(&grpc) {
                continue;
            }
            let health = self.health(&client, &grpc).await;
            asked.push(grpc.clone());
            let Some(health) = health else { continue };
            self.remember(&health);
            match step(&grpc, &health) {
                Step::Found(found) => return Round::Found(found),
                Step::Ask(leader) => waiting.push_front(leader),
                Step::Nothing => {}
            }
            result = Round::NoLeader;
        }
        result
    }

    /// What a node answers, asked where it says and else where its HTTP port is by habit.
    async fn health(&self, client: &Client, grpc: &HostPort) -> Option<Health> {
        let known = self.known.iter().find(|place| place.grpc == *grpc);
        let told = known.and_then(|place| place.http.clone());
        let beside = Some(grpc.http_beside()).filter(|beside| told.as_ref() != Some(beside));
        for address in [told, beside].into_iter().flatten() {
            for url in self.tls.http_urls(&address) {
                let answer = client.get(&url.path("/health").ok()?).await;
                // Another status says that it is not asked like this: without TLS, for one.
                let answer = answer.ok().filter(|a| matches!(a.status, 200 | 503));
                let health = answer.and_then(|a| serde_json::from_slice(&a.body).ok());
                if health.is_some() {
                    return health;
                }
            }
        }
        None
    }

    fn remember(&mut self, health: &Health) {
        for place in health.cluster.members.iter().filter_map(Member::place) {
            let has_room = self.known.len() < KNOWN_MAX;
            match self.known.iter_mut().find(|known| known.grpc == place.grpc) {
                Some(known) if place.http.is_some() => known.http = place.http,
                Some(_) => {}
                None if has_room => self.known.push(place),
                None => {}
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

fn step(asked: &HostPort, health: &Health) -> Step {
    if health.role == "leader" {
        let told = health.pg_address.as_deref().map(str::parse::<HostPort>);
        let Some(Ok(told)) = told else {
            return Step::Nothing;
        };
        let reached = HostPort {
            host: asked.host.clone(),
            port: told.port,
        };
        let mut pg = vec![reached, told];
        pg.dedup();
        let id = health.node_id.clone();
        return Step::Found(Found { id, pg });
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
        let leads = r#"{"node_id":"n2","role":"leader","pg_address":"10.0.0.2:5434","cluster":
            {"leader_address":"b:8001","members":[{"address":"a:8000"},{"address":"b:8001","http_address":"b:7"}]}}"#;
        let follows = r#"{"node_id":"n1","role":"follower","pg_address":"0.0.0.0:5433",
            "cluster":{"leader_address":"b:8001","members":[]}}"#;
        assert_eq!(
            step(&at("b:8001"), &health(leads)),
            Step::Found(Found {
                id: "n2".into(),
                pg: vec![at("b:5434"), at("10.0.0.2:5434")],
            })
        );
        assert_eq!(
            step(&at("a:8000"), &health(follows)),
            Step::Ask(at("b:8001"))
        );
        // It believes that the one who asks it leads, and that one does not: nobody does.
        assert_eq!(step(&at("b:8001"), &health(follows)), Step::Nothing);
        assert_eq!(step(&at("a:8000"), &health("{}")), Step::Nothing);
        let mut following = Following::of(at("a:8000"), TlsWish::none());
        following.remember(&health(leads));
        let places = following.known.iter();
        let places: Vec<_> = places.map(|p| (p.grpc.clone(), p.http.clone())).collect();
        assert_eq!(
            places,
            [(at("a:8000"), None), (at("b:8001"), Some(at("b:7")))]
        );
    }

    /// A node that answers `/health` with whatever it is told to, at an HTTP port that does not follow
    /// from its gRPC address, where nobody listens.
    struct Fake {
        grpc: HostPort,
        http: HostPort,
        health: Arc<Mutex<String>>,
    }

    impl Fake {
        async fn start(grpc: &str) -> Fake {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let http = at(&listener.local_addr().unwrap().to_string());
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
            let grpc = at(grpc);
            Fake { grpc, http, health }
        }

        fn says(&self, role: &str, leader: &Fake, members: &[&Fake]) {
            let members: Vec<_> = members
                .iter()
                .map(|m| serde_json::json!({ "address": m.grpc.to_string(), "http_address": m.http.to_string() }))
                .collect();
            let health = serde_json::json!({
                "node_id": format!("at {}", self.grpc),
                "role": role,
                "pg_address": format!("127.0.0.1:{}", self.grpc.port),
                "cluster": { "leader_address": leader.grpc.to_string(), "members": members },
            });
            *self.health.lock().unwrap() = health.to_string();
        }
    }

    #[tokio::test]
    async fn the_leader_is_followed_to_where_members_say_they_answer() {
        // No name of this kind is ever resolved.
        let first = Fake::start("first.invalid:8001").await;
        let second = Fake::start("second.invalid:8002").await;
        let third = Fake::start("third.invalid:8003").await;
        let members = [&first, &second, &third];
        first.says("follower", &second, &members);
        second.says("leader", &second, &members);
        let mut following = Following::of(first.grpc.clone(), TlsWish::none());
        following.known[0].http = Some(first.http.clone());
        let found = following.find_first().await.unwrap();
        assert_eq!(found.pg, [at("second.invalid:8002"), at("127.0.0.1:8002")]);
        // Another leads, and the one that was known from the beginning knows of nobody.
        *first.health.lock().unwrap() = "{}".to_owned();
        third.says("leader", &third, &[]);
        second.says("follower", &third, &members);
        let found = following.find().await.unwrap();
        assert_eq!(found.id, "at third.invalid:8003");
    }

    #[tokio::test]
    async fn a_node_that_says_nothing_of_itself_is_asked_beside_its_grpc_port() {
        let fake = Fake::start("127.0.0.1:1").await;
        let Some(port) = fake.http.port.checked_sub(HTTP_PORT_OFFSET) else {
            return;
        };
        let grpc = at(&format!("127.0.0.1:{port}"));
        let fake = Fake { grpc, ..fake };
        fake.says("leader", &fake, &[]);
        let mut following = Following::of(fake.grpc.clone(), TlsWish::none());
        assert_eq!(following.find_first().await.unwrap().pg, [fake.grpc]);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let nobody = at(&format!("127.0.0.1:{port}"));
        let mut following = Following::of(nobody, TlsWish::none());
        let error = following.find_first().await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("nobody tells"), "{error}");
    }
}
