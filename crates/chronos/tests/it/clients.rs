//! Foreign clients: their own scripts in `tests/clients`, run against a node.
//!
//! Each script takes a connection URL as its only argument, checks what it gets by itself, prints
//! what it did, and exits with 0 if all was right. One whose client is not installed here is skipped,
//! and says so; `CHRONOS_CLIENTS_REQUIRED=psql,psycopg` turns a skip of those into a failure.
//! tokio-postgres is a dependency of this binary, so its test is always run.

use std::process::{Command, Stdio};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use crate::node::{repository, Node};

/// Whether a command runs and succeeds.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub(crate) fn skip(client: &str, why: &str) {
    let required = std::env::var("CHRONOS_CLIENTS_REQUIRED").unwrap_or_default();
    assert!(
        !required.split(',').any(|r| r == client),
        "{client} is required: {why}"
    );
    println!("skipped: {client}: {why}");
}

/// Runs `program arguments.. script url` and expects 0.
fn run(program: &str, arguments: &[&str], script: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let output = Command::new(program)
        .args(arguments)
        .arg(repository().join("tests/clients").join(script))
        .arg(node.url())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} {script}: {e}"));
    assert!(
        output.status.success(),
        "{script} failed ({}):\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn python(client: &str, modules: &str, script: &str) {
    let python = std::env::var("CHRONOS_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if works(&python, &["-c", &format!("import {modules}")]) {
        run(&python, &[], script);
    } else {
        skip(client, &format!("{python} cannot import {modules}"));
    }
}

#[test]
fn psql() {
    if works("psql", &["--version"]) {
        run("bash", &[], "psql.sh");
    } else {
        skip("psql", "not in PATH");
    }
}

/// Every backslash command, of which none may fail.
#[test]
fn psql_catalog() {
    if works("psql", &["--version"]) {
        run("bash", &[], "psql_catalog.sh");
    } else {
        skip("psql", "not in PATH");
    }
}

#[test]
fn pgbench() {
    if works("pgbench", &["--version"]) && works("psql", &["--version"]) {
        run("bash", &[], "pgbench.sh");
    } else {
        skip("pgbench", "pgbench or psql is not in PATH");
    }
}

#[test]
fn psycopg() {
    python("psycopg", "psycopg", "psycopg_test.py");
}

#[test]
fn asyncpg() {
    python("asyncpg", "asyncpg", "asyncpg_test.py");
}

#[test]
fn sqlalchemy() {
    python("sqlalchemy", "sqlalchemy, psycopg", "sqlalchemy_test.py");
}

#[test]
fn alembic() {
    python("alembic", "alembic, sqlalchemy, psycopg", "alembic_test.py");
}

#[test]
fn django() {
    python("django", "django, psycopg", "django_test.py");
}

/// `pg` is found where NODE_PATH says.
#[test]
fn node_pg() {
    if works("node", &["-e", "require('pg')"]) {
        run("node", &[], "node_pg.js");
    } else {
        skip("node_pg", "node cannot require pg");
    }
}

/// The driver's jar is where CHRONOS_TEST_JDBC_JAR says.
#[test]
fn jdbc() {
    match std::env::var("CHRONOS_TEST_JDBC_JAR") {
        Ok(jar) if works("java", &["-version"]) => run("java", &["-cp", &jar], "JdbcTest.java"),
        _ => skip("jdbc", "java or CHRONOS_TEST_JDBC_JAR is missing"),
    }
}

#[test]
fn jdbc_catalog() {
    match std::env::var("CHRONOS_TEST_JDBC_JAR") {
        Ok(jar) if works("java", &["-version"]) => {
            run("java", &["-cp", &jar], "JdbcCatalogTest.java");
        }
        _ => skip("jdbc", "java or CHRONOS_TEST_JDBC_JAR is missing"),
    }
}

/// tokio-postgres asks the catalog for a type that it does not know.
#[tokio::test]
async fn tokio_postgres_looks_up_a_vector() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE v (id INT8 PRIMARY KEY, e VECTOR(3))";
    client.batch_execute(create).await.expect("the table");
    let statement = client.prepare("SELECT e, id FROM v").await;
    let statement = statement.expect("a column of a type of no client's own");
    let described = statement.columns()[0].type_();
    assert_eq!((described.name(), described.schema()), ("vector", "public"));
    let catalog = "SELECT oid, relname, relkind FROM pg_class WHERE oid = $1";
    let statement = client.prepare(catalog).await.expect("a query by id");
    assert_eq!(statement.params(), [Type::OID]);
    let types: Vec<&Type> = statement.columns().iter().map(|c| c.type_()).collect();
    assert_eq!(types, [&Type::OID, &Type::NAME, &Type::CHAR]);
    let row = client.query_one(&statement, &[&1259_u32]).await;
    let row = row.expect("pg_class itself");
    assert_eq!(
        (row.get::<_, u32>(0), row.get::<_, &str>(1)),
        (1259, "pg_class")
    );
}

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn tokio_postgres_prepares_and_pipelines() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE t (id INT8 PRIMARY KEY, name TEXT, f FLOAT8, at TIMESTAMPTZ, ok BOOL, raw BYTEA)";
    client.batch_execute(create).await.expect("the table");

    let insert = client
        .prepare("INSERT INTO t VALUES ($1, $2, $3, now(), $4, $5)")
        .await
        .expect("an INSERT");
    assert_eq!(
        insert.params(),
        [
            Type::INT8,
            Type::TEXT,
            Type::FLOAT8,
            Type::BOOL,
            Type::BYTEA
        ]
    );
    let raw: &[u8] = &[0, 255];
    let inserts = (0..200_i64).map(|id| {
        let (client, insert) = (&client, &insert);
        async move {
            let name = format!("n{id}");
            let values: [&(dyn ToSql + Sync); 5] =
                [&id, &name, &(id as f64 / 4.0), &(id % 2 == 0), &raw];
            client.execute(insert, &values).await
        }
    });
    for done in futures::future::join_all(inserts).await {
        assert_eq!(done.expect("an insert"), 1);
    }

    let select = client
        .prepare("SELECT name, f, ok, raw FROM t WHERE id = $1")
        .await
        .expect("a SELECT");
    for id in [0_i64, 7, 199] {
        let row = client.query_one(&select, &[&id]).await.expect("a row");
        assert_eq!(row.get::<_, String>(0), format!("n{id}"));
        assert_eq!(row.get::<_, f64>(1), id as f64 / 4.0);
        assert_eq!(row.get::<_, bool>(2), id % 2 == 0);
        assert_eq!(row.get::<_, Vec<u8>>(3), raw);
    }
    assert!(client
        .query_opt(&select, &[&999_i64])
        .await
        .expect("no row")
        .is_none());

    let some = client
        .query(
            "SELECT id FROM t WHERE id = ANY($1) AND name <> $2 ORDER BY id",
            &[&vec![1_i64, 2, 3], &"n2"],
        )
        .await
        .expect("an array as a parameter");
    assert_eq!(some.iter().map(|r| r.get(0)).collect::<Vec<i64>>(), [1, 3]);

    let duplicate = client
        .execute(&insert, &[&7_i64, &"x", &0.0_f64, &true, &raw])
        .await;
    let error = duplicate.expect_err("a key that exists");
    assert_eq!(error.code().map(|c| c.code()), Some("23505"));
}

/// Parameters are found, and typed, in every part of a statement.
#[tokio::test]
async fn tokio_postgres_parameters_in_subqueries_and_writes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    client
        .batch_execute("CREATE TABLE t (id INT8 PRIMARY KEY, grp TEXT, n INT8)")
        .await
        .expect("the table");
    client
        .batch_execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 3)")
        .await
        .expect("rows");
    let (one, two): (&(dyn ToSql + Sync), &(dyn ToSql + Sync)) = (&1_i64, &2_i64);
    let cases: [(&str, &[&(dyn ToSql + Sync)], &[i64]); 8] = [
        (
            "SELECT (SELECT count(*) FROM t y WHERE y.n > x.n + $1 - 1) FROM t x ORDER BY x.id LIMIT $2",
            &[one, two],
            &[2, 1],
        ),
        (
            "SELECT id FROM t x WHERE EXISTS (SELECT 1 FROM t y WHERE y.id = x.id + $1) AND n >= $2",
            &[one, two],
            &[2],
        ),
        (
            "SELECT q.m FROM t x, LATERAL (SELECT y.n AS m FROM t y WHERE y.id > x.id ORDER BY y.id LIMIT $1) q WHERE x.id = $2",
            &[one, two],
            &[3],
        ),
        ("SELECT g FROM generate_series($1::int8, $2::int8) g", &[one, two], &[1, 2]),
        (
            "INSERT INTO t VALUES ($1, 'z', 5) ON CONFLICT (id) DO UPDATE SET n = t.n + $2 RETURNING n",
            &[one, two],
            &[3],
        ),
        (
            "UPDATE t SET n = (SELECT max(y.n) FROM t y WHERE y.grp = t.grp) + $1 WHERE id = $2 RETURNING n",
            &[one, two],
            &[4],
        ),
        ("UPDATE t SET n = 7 WHERE id = $1 RETURNING n + $2", &[one, two], &[9]),
        (
            "WITH w AS (SELECT $1::int8 AS i) DELETE FROM t USING w WHERE t.id = w.i + $2 RETURNING t.id",
            &[one, two],
            &[3],
        ),
    ];
    for (sql, parameters, expected) in cases {
        let rows = client
            .query(sql, parameters)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let got: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(got, expected, "{sql}");
    }
}

/// A portal is read in pieces, and a transaction of the driver's own is rolled back when dropped.
/// The types that PostgreSQL gives parameters for which the client declares none.
#[tokio::test]
async fn tokio_postgres_is_told_the_types_of_parameters() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    for (sql, expected) in [
        ("SELECT $1", Type::TEXT),
        ("SELECT $1 || 'x'", Type::TEXT),
        ("SELECT $1::int8", Type::INT8),
        ("SELECT $1::jsonb", Type::JSONB),
        ("SELECT 1 WHERE $1::text = 'x' AND $1 = 2::int8", Type::INT8),
        ("SELECT 1 WHERE 2::int8 = $1 OR $1 IS NULL", Type::INT8),
        ("SELECT 1 LIMIT $1", Type::INT8),
        ("SELECT 1 OFFSET $1", Type::INT8),
    ] {
        let prepared = client.prepare(sql).await.expect(sql);
        assert_eq!(prepared.params(), [expected], "{sql}");
    }
    let row = client
        .query_one("SELECT $1, $2::int8", &[&"a", &7_i64])
        .await;
    let row = row.expect("parameters without a column");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("a", 7));
    let rows = client.query("SELECT 1 LIMIT $1", &[&0_i64]).await;
    assert!(rows.expect("a LIMIT").is_empty());
}

/// Joins whose filter refuses every pair, for hours: more of them than there are threads are
/// started and let go, and the node goes on.
#[tokio::test]
async fn endless_joins_are_cancelled_and_hold_up_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let other = connect(&node).await;
    for join in ["a.x + b.x = 0", "a.x % 1 = b.x % 1 AND a.x + b.x = 0"] {
        let sql = format!(
            "SELECT count(*) FROM generate_series(1, 300000) a(x) \
             JOIN generate_series(1, 300000) b(x) ON {join}"
        );
        let queries = (0..6).map(|_| async {
            let client = connect(&node).await;
            let limit = client
                .batch_execute("SET statement_timeout = '300ms'")
                .await;
            limit.expect("a time limit");
            client
                .simple_query(&sql)
                .await
                .expect_err("it ends in hours")
        });
        let (errors, one) = futures::join!(
            futures::future::join_all(queries),
            other.simple_query("SELECT 1")
        );
        one.expect("another session is answered meanwhile");
        for error in errors {
            assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{error:?}");
        }
    }
    assert_eq!(node.stop(), Some(0));
}

/// A chain of conditions is as deep a tree as it is long; one that runs off the end of the stack
/// takes the node with it.
#[tokio::test]
async fn long_chains_of_conditions_are_no_deep_nesting() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    for (link, rows) in [("AND", 2), ("OR", 2)] {
        let conditions: Vec<String> = (0..3000).map(|i| format!("s <> '{i}'")).collect();
        let conditions = conditions.join(&format!(" {link} "));
        let sql = format!("SELECT s FROM (VALUES ('a'), ('b')) v(s) WHERE {conditions}");
        let found = client.query(&sql, &[]).await.expect("a long chain");
        assert_eq!(found.len(), rows, "{link}");
    }
    let sum = format!("SELECT {}", vec!["1"; 5000].join(" + "));
    let error = client.query(&sum, &[]).await;
    let error = error.expect_err("it nests too deep");
    assert_eq!(error.code().map(|c| c.code()), Some("54001"), "{error:?}");
    assert_eq!(node.stop(), Some(0));
}

#[tokio::test]
async fn tokio_postgres_portals_and_transactions() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let mut client = connect(&node).await;
    client
        .batch_execute("CREATE TABLE t (id INT8 PRIMARY KEY)")
        .await
        .expect("the table");
    client
        .batch_execute("INSERT INTO t SELECT n FROM generate_series(1, 1000) AS g(n)")
        .await
        .expect("rows");

    let transaction = client.transaction().await.expect("BEGIN");
    let portal = transaction
        .bind("SELECT id FROM t ORDER BY id", &[])
        .await
        .expect("a portal");
    let mut seen = Vec::new();
    loop {
        let rows = transaction
            .query_portal(&portal, 300)
            .await
            .expect("a piece");
        assert!(rows.len() <= 300);
        seen.extend(rows.iter().map(|r| r.get::<_, i64>(0)));
        if rows.len() < 300 {
            break;
        }
    }
    assert_eq!(seen, (1..=1000).collect::<Vec<_>>());
    transaction
        .execute("DELETE FROM t", &[])
        .await
        .expect("a DELETE");
    drop(transaction);
    let left: i64 = client
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(left, 1000);

    let mut transaction = client.transaction().await.expect("BEGIN");
    let inner = transaction.savepoint("inner").await.expect("a savepoint");
    inner
        .execute("DELETE FROM t WHERE id > 10", &[])
        .await
        .expect("a DELETE");
    inner.rollback().await.expect("ROLLBACK TO");
    transaction
        .execute("DELETE FROM t WHERE id = 1000", &[])
        .await
        .expect("a DELETE");
    transaction.commit().await.expect("COMMIT");
    let left: i64 = client
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(left, 999);
}

/// A long query ends when the client says so, and the connection goes on.
#[tokio::test]
async fn tokio_postgres_cancels() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let token = client.cancel_token();
    let long =
        "SELECT count(*) FROM generate_series(1, 10000000) a(x), generate_series(1, 10000000) b(y)";
    let query = client.query(long, &[]);
    tokio::pin!(query);
    // A request that comes before the query is without effect, so it is repeated.
    let error = loop {
        tokio::select! {
            answer = &mut query => break answer.expect_err("the query cannot have ended"),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {
                token.cancel_query(NoTls).await.expect("a cancel request");
            }
        }
    };
    assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{error:?}");
    let one: i64 = client
        .query_one("SELECT 1::int8", &[])
        .await
        .expect("the connection goes on")
        .get(0);
    assert_eq!(one, 1);
}
