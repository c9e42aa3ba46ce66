//! A follower that is cut off: what it answers depends on what is asked for, and the judge tells one from the other.

use std::net::SocketAddr;

use chronos_sim::checkers::linearizable::{self, Action, Fault};
use chronos_sim::checkers::History;
use tokio_postgres::{Client, NoTls};

use super::network::Flow;
use super::nodes::Cluster;
use super::scenario;

const KEY: u64 = 0;

#[test]
fn a_node_that_is_cut_off_answers_old_values_only_to_who_wants_them() {
    scenario(async |_| {
        let cluster = Cluster::start(3, 0).await;
        let leader = cluster.leader_among(&cluster.all()).await;
        let away = (leader + 1) % 3;
        let places = cluster.places();
        let place = |node: usize| places.lock().expect("no panic")[node].expect("it runs");
        let (near, far) = (connect(place(leader)).await, connect(place(away)).await);
        let mut history = History::new();
        let table = "CREATE TABLE register (v INT8 PRIMARY KEY)";
        near.batch_execute(table).await.expect("a table");
        write(&near, 1, &mut history).await;
        cluster.caught_up(&cluster.all()).await;
        assert_eq!(read(&far, &mut history).await.ok(), Some(1));
        cluster.network.set_around(&[away], Flow::Cut);
        write(&near, 2, &mut history).await;

        // Nobody can tell the node how new what it has is.
        let refused = read(&far, &mut history)
            .await
            .expect_err("there is no leader to ask");
        assert_eq!(code(&refused), "57P03", "{refused:?}");
        assert_eq!(linearizable::check(&history.operations()), Ok(()));
        set(&far, "stale").await;
        assert_eq!(read(&far, &mut history).await.ok(), Some(1));
        let fault = linearizable::check(&history.operations());
        assert!(matches!(fault, Err(Fault::Unexplained { .. })), "{fault:?}");

        cluster.network.heal();
        cluster.leader_among(&cluster.all()).await;
        set(&far, "linearizable").await;
        assert_eq!(read(&far, &mut history).await.ok(), Some(2));
    });
}

async fn connect(to: SocketAddr) -> Client {
    let url = format!("postgres://chronos@{to}/chronos");
    let (client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

async fn write(client: &Client, value: u64, history: &mut History) {
    let write = history.invoke(0, KEY, Action::Write(Some(value)));
    let sql = format!("INSERT INTO register VALUES ({value})");
    client
        .batch_execute(&sql)
        .await
        .expect("a write by the leader");
    history.done(write);
}

/// The greatest value is the one that was written last.
async fn read(client: &Client, history: &mut History) -> Result<u64, tokio_postgres::Error> {
    let read = history.invoke(1, KEY, Action::Read(None));
    match client.query_one("SELECT max(v) FROM register", &[]).await {
        Ok(row) => {
            let value = row.get::<_, i64>(0) as u64;
            history.read(read, Some(value));
            Ok(value)
        }
        Err(error) => {
            history.failed(read);
            Err(error)
        }
    }
}

async fn set(client: &Client, consistency: &str) {
    let sql = format!("SET chronos.read_consistency = '{consistency}'");
    client.batch_execute(&sql).await.expect("a setting");
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.as_db_error().map_or("", |told| told.code().code())
}
