//! What users may do: each kind of statement by each role.

use tokio_postgres::error::SqlState;

use crate::login::connect;
use crate::node::Node;

/// Who may do something, from nobody's role to the admin's.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Least {
    Nothing,
    ReadOnly,
    ReadWrite,
    Admin,
}
use Least::{Admin, Nothing, ReadOnly, ReadWrite};

/// Each is run by users of each role, the least first, in one database. `ROLE` stands for a name
/// of each user's own.
const STATEMENTS: &[(Least, &str)] = &[
    (Nothing, "SELECT 1"),
    (Nothing, "SELECT count(*) FROM pg_class"),
    (Nothing, "SELECT current_user, session_user"),
    (Nothing, "SET application_name = 'x'"),
    (Nothing, "SHOW ALL"),
    (Nothing, "BEGIN; SELECT 1; COMMIT"),
    (Nothing, "DISCARD ALL"),
    (Nothing, "ALTER USER ROLE PASSWORD 'x'"),
    (ReadOnly, "SELECT * FROM t"),
    (ReadOnly, "SELECT * FROM t WHERE a = 1"),
    (ReadOnly, "SELECT (SELECT count(*) FROM t)"),
    (ReadOnly, "WITH w AS (SELECT * FROM t) SELECT * FROM w"),
    (ReadOnly, "SELECT * FROM v"),
    (ReadOnly, "SELECT * FROM t FOR SYSTEM_TIME ALL"),
    (ReadOnly, "SELECT * FROM history('t', 1)"),
    (ReadOnly, "SELECT * FROM t FOR UPDATE"),
    (ReadOnly, "GET t KEY 1"),
    (ReadOnly, "HISTORY t KEY 1"),
    (ReadOnly, "SETTING DEFAULT SYSTEM_TIME ALL SELECT * FROM t"),
    (ReadOnly, "EXPLAIN SELECT * FROM t"),
    (ReadOnly, "EXPLAIN ANALYZE SELECT * FROM t"),
    (
        ReadWrite,
        "INSERT INTO t VALUES (7, 1) ON CONFLICT DO NOTHING",
    ),
    (
        ReadWrite,
        "INSERT INTO t SELECT a + 6, 1 FROM t WHERE a = 1 ON CONFLICT (a) DO UPDATE SET b = 2",
    ),
    (ReadWrite, "UPDATE t SET b = 3 WHERE a = 1"),
    (ReadWrite, "UPDATE t SET b = b + 1"),
    (
        ReadWrite,
        "UPDATE t FOR PORTION OF VALID_TIME FROM '2020-01-01' TO '2020-02-01' SET b = 1",
    ),
    (ReadWrite, "DELETE FROM t WHERE a = 7"),
    (ReadWrite, "DELETE FROM t WHERE b > 1000"),
    (ReadWrite, "TRUNCATE u"),
    (ReadWrite, "SELECT nextval('s')"),
    (ReadWrite, "SELECT setval('s', 10)"),
    (Admin, "ERASE FROM t WHERE a = 1000"),
    (Admin, "CREATE TABLE t_ROLE (a INT)"),
    (Admin, "CREATE TABLE c_ROLE AS SELECT * FROM t"),
    (Admin, "SELECT * INTO i_ROLE FROM t"),
    (Admin, "CREATE VIEW v_ROLE AS SELECT 1 AS a"),
    (Admin, "CREATE SEQUENCE s_ROLE"),
    (Admin, "CREATE INDEX x_ROLE ON u (a)"),
    (Admin, "DROP INDEX x_ROLE"),
    (Admin, "ALTER TABLE u ADD COLUMN c_ROLE INT"),
    (Admin, "ALTER TABLE u SET (ttl = '7d')"),
    (Admin, "COMMENT ON TABLE t IS 'x'"),
    (Admin, "DROP VIEW v_ROLE"),
    (Admin, "DROP SEQUENCE s_ROLE"),
    (Admin, "DROP TABLE t_ROLE"),
    (Admin, "VACUUM t"),
    (Admin, "COMPACT TABLE t"),
    (Admin, "CREATE USER u_ROLE PASSWORD 'x'"),
    (Admin, "ALTER USER u_ROLE PASSWORD 'y'"),
    (Admin, "ALTER USER u_ROLE RENAME TO w_ROLE"),
    (Admin, "GRANT chronos_admin TO w_ROLE"),
    (Admin, "REVOKE chronos_admin FROM w_ROLE"),
    (Admin, "DROP USER w_ROLE"),
    (Admin, "ALTER USER ROLE SUPERUSER"),
];

#[tokio::test]
async fn each_statement_by_each_role() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(directory.path(), &["--auth", "auto"]);
    let admin = connect(&node, "root", None)
        .await
        .expect("nobody is asked yet")
        .client;
    for statement in [
        "CREATE TABLE t (a INT PRIMARY KEY, b INT)",
        "CREATE TABLE u (a INT)",
        "INSERT INTO t VALUES (1, 1)",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE SEQUENCE s",
        "CREATE USER none PASSWORD 'x'",
        "CREATE USER reader PASSWORD 'x' IN ROLE pg_read_all_data",
        "CREATE USER writer PASSWORD 'x' IN ROLE chronos_read_write",
        "CREATE USER boss PASSWORD 'x' SUPERUSER",
    ] {
        let done = admin.batch_execute(statement).await;
        match statement.starts_with("CREATE USER none") {
            // The name is no name.
            true => assert_eq!(
                done.unwrap_err().code(),
                Some(&SqlState::from_code("42939"))
            ),
            false => done.expect(statement),
        }
    }
    admin
        .batch_execute("CREATE USER bare PASSWORD 'x'")
        .await
        .expect("a user");
    for (role, user) in [
        (Nothing, "bare"),
        (ReadOnly, "reader"),
        (ReadWrite, "writer"),
        (Admin, "boss"),
    ] {
        let client = connect(&node, user, Some("x")).await.expect(user).client;
        for (least, statement) in STATEMENTS {
            let statement = statement.replace("ROLE", user);
            let simple = client.simple_query(&statement).await;
            judge(user, role >= *least, &statement, simple.map(drop));
            if !statement.contains(';') && role < *least {
                let prepared = match client.prepare(&statement).await {
                    Ok(prepared) => client.query(&prepared, &[]).await.map(drop),
                    Err(e) => Err(e),
                };
                judge(user, false, &statement, prepared);
            }
        }
        // Each with a connection of its own: the driver loses count when a COPY is refused.
        let copy = "COPY u (a) FROM STDIN";
        let client = connect(&node, user, Some("x")).await.expect(user).client;
        let copied = client.copy_in::<_, bytes::Bytes>(copy).await;
        judge(user, role >= ReadWrite, copy, copied.map(drop));
        for copy in ["COPY t TO STDOUT", "COPY (SELECT * FROM t) TO STDOUT"] {
            let client = connect(&node, user, Some("x")).await.expect(user).client;
            let copied = client.copy_out(copy).await;
            judge(user, role >= ReadOnly, copy, copied.map(drop));
        }
    }
}

fn judge(user: &str, may: bool, statement: &str, done: Result<(), tokio_postgres::Error>) {
    match done {
        Ok(()) => assert!(may, "{user} could {statement}"),
        Err(e) => {
            assert!(!may, "{user} could not {statement}: {e:?}");
            let code = e.code();
            assert_eq!(
                code,
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{user}: {statement}: {e:?}"
            );
        }
    }
}

#[tokio::test]
async fn functions_about_privileges_tell_the_truth() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let admin = connect(&node, "root", None)
        .await
        .expect("nobody is asked yet")
        .client;
    let tell =
        "SELECT has_table_privilege('t', 'SELECT'), has_table_privilege('t', 'INSERT, TRIGGER'),
        has_schema_privilege('public', 'CREATE'), has_schema_privilege('public', 'USAGE'),
        has_table_privilege('pg_class', 'SELECT'), pg_has_role('chronos_read_only', 'MEMBER'),
        has_table_privilege('reader', 't', 'SELECT'), has_table_privilege('reader', 't', 'UPDATE'),
        current_setting('is_superuser') = 'on', current_user = session_user";
    for statement in [
        "CREATE TABLE t (a INT)",
        "CREATE USER reader PASSWORD 'x' IN ROLE chronos_read_only",
        "CREATE USER writer PASSWORD 'x' IN ROLE chronos_read_write",
        "CREATE USER bare PASSWORD 'x'",
    ] {
        admin.batch_execute(statement).await.expect(statement);
    }
    for (user, expected) in [
        ("bare", "f f f t t f t f f t"),
        ("reader", "t f f t t t t f f t"),
        ("writer", "t t f t t t t f f t"),
    ] {
        let client = connect(&node, user, Some("x")).await.expect(user).client;
        assert_eq!(told(&client, tell).await, expected, "{user}");
    }
    assert_eq!(told(&admin, tell).await, "t t t t t t t f t t");
    let unknown = "SELECT has_table_privilege('nobody', 't', 'SELECT')";
    let unknown = admin.simple_query(unknown).await.unwrap_err();
    assert_eq!(unknown.code(), Some(&SqlState::UNDEFINED_OBJECT));
}

async fn told(client: &tokio_postgres::Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).await.expect(sql);
    let values = (0..row.len()).map(|i| if row.get(i) { "t" } else { "f" });
    values.collect::<Vec<_>>().join(" ")
}
