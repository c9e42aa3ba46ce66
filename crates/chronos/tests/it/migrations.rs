//! DDL in transaction blocks, beside other sessions and over kills; and random blocks compared with
//! the same statements outside of a block.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::node::Node;
use crate::random::{variable, SplitMix};

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect(sql);
}

/// The code of the error that statements end with; empty: they succeed.
async fn code(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(e) => {
            let told = e.as_db_error();
            let told = told.unwrap_or_else(|| panic!("no answer to {sql}: {e:?}"));
            assert!(!told.code().code().starts_with("XX"), "{sql}: {told:?}");
            told.code().code().to_owned()
        }
    }
}

/// All rows as text, columns joined; or the code of the error.
async fn shown(client: &Client, sql: &str) -> Vec<String> {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(e) => {
            let told = e.as_db_error();
            let told = told.unwrap_or_else(|| panic!("no answer to {sql}: {e:?}"));
            return vec![told.code().code().to_owned()];
        }
    };
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned());
            Some(cells.collect::<Vec<_>>().join(" "))
        }
        _ => None,
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_there_as_a_whole_after_a_kill_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let client = connect(&node).await;
    run(
        &client,
        "CREATE TABLE old (id INT PRIMARY KEY, v INT2);
         INSERT INTO old SELECT x, x FROM generate_series(1, 500) AS g(x);",
    )
    .await;
    run(
        &client,
        "BEGIN;
         CREATE TABLE made (id SERIAL PRIMARY KEY, what TEXT UNIQUE);
         INSERT INTO made (what) SELECT 'w' || x FROM generate_series(1, 300) AS g(x);
         ALTER TABLE old ADD COLUMN n INT DEFAULT 3, ALTER v TYPE INT8;
         UPDATE old SET v = 100000, n = n + 1 WHERE id <= 10;
         CREATE UNIQUE INDEX old_v_id ON old (v, id);
         CREATE INDEX old_n ON old (n);
         CREATE VIEW fours AS SELECT id FROM old WHERE n = 4;
         COMMIT;",
    )
    .await;
    // One that lost against another, and two that nobody ends.
    let (lost, open, other) = (
        connect(&node).await,
        connect(&node).await,
        connect(&node).await,
    );
    run(
        &lost,
        "BEGIN; CREATE TABLE lost (a INT); INSERT INTO lost VALUES (1)",
    )
    .await;
    run(
        &open,
        "BEGIN; DROP TABLE made; DROP VIEW fours; ALTER TABLE old DROP COLUMN n",
    )
    .await;
    run(&other, "CREATE TABLE meanwhile (a INT)").await;
    assert_eq!(code(&lost, "COMMIT").await, "40001");
    let questions = [
        "SELECT count(*), sum(v), sum(n) FROM old",
        "SELECT * FROM old WHERE v = 100000 AND id = 7",
        "SELECT count(*), min(id), max(id) FROM made",
        "SELECT id FROM made WHERE what = 'w300'",
        "SELECT count(*) FROM fours",
        "SELECT * FROM lost",
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    ];
    let mut before = Vec::new();
    for question in questions {
        before.push(shown(&other, question).await);
    }
    assert_eq!(before[0], ["500 1125195 1510"]);
    assert_eq!(before[3], ["300"]);
    assert_eq!(before[5], ["42P01"]);
    for _ in 0..2 {
        node.kill();
        node = Node::start(directory.path());
        let client = connect(&node).await;
        for (question, before) in questions.iter().zip(&before) {
            assert_eq!(&shown(&client, question).await, before, "{question}");
        }
        let duplicate = "INSERT INTO made (what) VALUES ('w17')";
        assert_eq!(code(&client, duplicate).await, "23505");
    }
    let client = connect(&node).await;
    let next = shown(
        &client,
        "INSERT INTO made (what) VALUES ('n') RETURNING id > 300",
    )
    .await;
    assert_eq!(next, ["t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_block_sees_and_others_do_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let (one, two) = (connect(&node).await, connect(&node).await);
    run(
        &one,
        "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 10)",
    )
    .await;
    // The same statements, prepared by both before: neither is given the other's plan.
    let by_key = "SELECT * FROM t WHERE id = $1";
    let prepared = two.prepare(by_key).await.expect("a plan");
    run(&one, "BEGIN; ALTER TABLE t ADD COLUMN w INT DEFAULT 5").await;
    assert_eq!(shown(&one, "SELECT * FROM t").await, ["1 10 5"]);
    assert_eq!(shown(&two, "SELECT * FROM t").await, ["1 10"]);
    let mine = one.prepare(by_key).await.expect("a plan of the block");
    assert_eq!(mine.columns().len(), 3);
    assert_eq!(
        two.query_one(&prepared, &[&1i64])
            .await
            .expect("a row")
            .len(),
        2
    );
    run(&two, "INSERT INTO t VALUES (2, 20)").await;
    run(&two, "UPDATE t SET v = 11 WHERE id = 1").await;
    assert_eq!(shown(&one, "SELECT * FROM t ORDER BY id").await, ["1 10 5"]);
    assert_eq!(code(&one, "COMMIT").await, "");
    let rows = ["1 11 5", "2 20 5"];
    assert_eq!(shown(&two, "SELECT * FROM t ORDER BY id").await, rows);
    // A statement that was described with fewer columns.
    let changed = two
        .query(&prepared, &[&1i64])
        .await
        .expect_err("other columns");
    assert_eq!(changed.code().map(|c| c.code()), Some("0A000"));
    // Who writes rows for a table that another alters meanwhile, loses; the alteration does not.
    run(&two, "BEGIN; UPDATE t SET v = 12 WHERE id = 1").await;
    run(&one, "BEGIN; ALTER TABLE t DROP COLUMN w; COMMIT").await;
    assert_eq!(code(&two, "COMMIT").await, "40001");
    // What is demanded of rows is demanded of those that came meanwhile.
    run(&one, "BEGIN; ALTER TABLE t ALTER v SET NOT NULL").await;
    run(&two, "INSERT INTO t VALUES (3, NULL)").await;
    assert_eq!(code(&one, "COMMIT").await, "40001");
    run(&one, "BEGIN; CREATE UNIQUE INDEX t_v ON t (v)").await;
    run(&two, "INSERT INTO t VALUES (4, 20)").await;
    assert_eq!(code(&one, "COMMIT").await, "40001");
    run(
        &one,
        "BEGIN; CREATE TABLE kept AS SELECT * FROM t; DROP TABLE t",
    )
    .await;
    run(&two, "INSERT INTO t VALUES (5, 50)").await;
    assert_eq!(code(&one, "COMMIT").await, "40001");
    assert_eq!(shown(&two, "SELECT count(*) FROM t").await, ["5"]);
    // Two that create the same: one does.
    run(&one, "BEGIN; CREATE TABLE twice (a INT)").await;
    run(&two, "BEGIN; CREATE TABLE twice (b INT)").await;
    assert_eq!(code(&two, "COMMIT").await, "");
    assert_eq!(code(&one, "COMMIT").await, "40001");
    assert_eq!(code(&one, "SELECT b FROM twice").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_altered_and_copied_in_a_block() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let (one, two) = (connect(&node).await, connect(&node).await);
    run(
        &one,
        "CREATE TABLE big (id INT PRIMARY KEY, v INT4);
         INSERT INTO big SELECT x, x % 1000 FROM generate_series(1, 200001) g(x)",
    )
    .await;
    run(
        &one,
        "BEGIN;
         CREATE TABLE copied AS SELECT * FROM big WHERE id <= 20000;
         ALTER TABLE copied ADD PRIMARY KEY (id);
         ALTER TABLE big ADD COLUMN n INT DEFAULT 1, ALTER v TYPE INT8;
         ALTER TABLE copied ADD COLUMN n INT DEFAULT 2, ALTER v TYPE INT8;
         UPDATE big SET n = 3 WHERE v = 7;
         UPDATE copied SET n = 3 WHERE id <= 200;
         CREATE INDEX big_v ON big (v);
         CREATE UNIQUE INDEX copied_vid ON copied (v, id);
         SAVEPOINT s",
    )
    .await;
    // It would keep all writers waiting.
    assert_eq!(
        code(&one, "CREATE UNIQUE INDEX big_vid ON big (v, id)").await,
        "0A000"
    );
    run(&one, "ROLLBACK TO s").await;
    let sums = ["200001 99900001 200401", "20000 9990000 40200"];
    for (table, sum) in ["big", "copied"].iter().zip(sums) {
        let query = format!("SELECT count(*), sum(v), sum(n) FROM {table}");
        assert_eq!(shown(&one, &query).await, [sum]);
    }
    assert_eq!(shown(&two, "SELECT sum(v) FROM big").await, ["99900001"]);
    run(&one, "COMMIT").await;
    for (table, sum) in ["big", "copied"].iter().zip(sums) {
        let query = format!("SELECT count(*), sum(v), sum(n) FROM {table}");
        assert_eq!(shown(&two, &query).await, [sum]);
    }
    // The index was waited for, and is used.
    let plan = shown(&two, "EXPLAIN SELECT * FROM big WHERE v = 7 AND n = 3").await;
    assert!(plan.join(" ").contains("big_v"), "{plan:?}");
    assert_eq!(
        code(&two, "INSERT INTO copied VALUES (5, 1, 1)").await,
        "23505"
    );
    assert_eq!(
        shown(&two, "SELECT n FROM copied WHERE id = 200").await,
        ["3"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_several_statements_is_one_migration() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let failing =
        "CREATE TABLE a (x INT PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO a VALUES (1)";
    assert_eq!(code(&client, failing).await, "23505");
    assert_eq!(code(&client, "SELECT * FROM a").await, "42P01");
    run(
        &client,
        "CREATE TABLE a (x INT PRIMARY KEY); INSERT INTO a VALUES (1); ALTER TABLE a ADD y INT DEFAULT 2",
    )
    .await;
    assert_eq!(shown(&client, "SELECT * FROM a").await, ["1 2"]);
}

/// Tables that random statements are about, behind the prefix that says whose they are.
const TABLES: u64 = 3;
const COLUMNS: u64 = 5;
const BLOCKS: u64 = 40;

/// Statements in a block, and the same outside of it; `@` stands for the prefix.
struct Pair {
    random: SplitMix,
    inside: Client,
    outside: Client,
}

impl Pair {
    fn column(&mut self) -> String {
        format!("c{}", self.random.below(COLUMNS))
    }

    async fn columns(&self, table: &str) -> Vec<String> {
        let query = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'in_{table}' ORDER BY ordinal_position"
        );
        shown(&self.inside, &query).await
    }

    /// A statement that is likely to succeed.
    async fn statement(&mut self) -> String {
        let table = format!("t{}", self.random.below(TABLES));
        let columns = self.columns(&table).await;
        let number = self.random.below(40);
        let (column, other) = (self.column(), self.column());
        let known = match columns.len() as u64 {
            0 => column.clone(),
            n => columns[self.random.below(n) as usize].clone(),
        };
        if columns.is_empty() {
            return match number % 3 {
                0 => format!("CREATE TABLE @{table} (c0 INT PRIMARY KEY, c1 INT4, c2 TEXT)"),
                1 => format!("CREATE TABLE @{table} (c0 INT4, c1 INT UNIQUE)"),
                _ => format!("CREATE TABLE @{table} AS SELECT x AS c0, x % 7 AS c1 FROM generate_series(1, {}) g(x)", number * 4),
            };
        }
        match self.random.below(20) {
            0 => format!("DROP TABLE @{table}"),
            1 => format!("ALTER TABLE @{table} ADD COLUMN {column} INT DEFAULT {number}"),
            2 => format!("ALTER TABLE @{table} ADD COLUMN {column} TEXT"),
            3 => format!("ALTER TABLE @{table} DROP COLUMN {known}"),
            4 => format!("ALTER TABLE @{table} RENAME COLUMN {known} TO {other}"),
            5 => format!("ALTER TABLE @{table} ALTER {known} TYPE INT8"),
            6 => format!("ALTER TABLE @{table} ALTER {known} SET NOT NULL"),
            7 => format!("TRUNCATE @{table}"),
            8 => format!(
                "ALTER TABLE @{table} RENAME TO @t{}",
                self.random.below(TABLES)
            ),
            9 => format!("CREATE UNIQUE INDEX @u{} ON @{table} ({known})", number % 4),
            10 => format!("CREATE INDEX @i{} ON @{table} ({known})", number % 4),
            11 => format!(
                "DROP INDEX @{}{}",
                ["u", "i"][number as usize % 2],
                number % 4
            ),
            12 => {
                format!("ALTER TABLE @{table} ADD CONSTRAINT k CHECK ({known}::text <> '{number}')")
            }
            13 => format!(
                "DELETE FROM @{table} WHERE {known}::text LIKE '%{}'",
                number % 10
            ),
            14 | 15 => format!(
                "UPDATE @{table} SET {known} = {number} WHERE {known}::text LIKE '%{}'",
                number % 10
            ),
            _ => {
                let values: Vec<String> = columns
                    .iter()
                    .map(|_| self.random.below(40).to_string())
                    .collect();
                let or_skip = ["", " ON CONFLICT DO NOTHING"][number as usize % 2];
                format!(
                    "INSERT INTO @{table} VALUES ({}){or_skip}",
                    values.join(", ")
                )
            }
        }
    }

    /// What there is, without the prefix.
    async fn state(client: &Client, prefix: &str) -> Vec<Vec<String>> {
        let mut state = Vec::new();
        for table in 0..TABLES {
            let names = format!(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = '{prefix}t{table}' ORDER BY ordinal_position"
            );
            let names = shown(client, &names).await;
            // A table that is not there would end the block.
            let mut rows = match names.is_empty() {
                true => vec![],
                false => shown(client, &format!("SELECT * FROM {prefix}t{table}")).await,
            };
            state.push(names);
            rows.sort();
            state.push(rows);
        }
        let indexes = format!(
            "SELECT indexdef FROM pg_indexes WHERE tablename LIKE '{prefix}t%' ORDER BY indexname"
        );
        let indexes = shown(client, &indexes).await;
        state.push(indexes.iter().map(|i| i.replace(prefix, "")).collect());
        state
    }

    async fn block(&mut self, log: &mut Vec<String>) {
        let before = Pair::state(&self.inside, "in_").await;
        run(&self.inside, "BEGIN").await;
        let mut done = Vec::new();
        for _ in 0..=self.random.below(9) {
            let statement = self.statement().await;
            run(&self.inside, "SAVEPOINT s").await;
            let answer = code(&self.inside, &statement.replace('@', "in_")).await;
            log.push(format!("{statement} -- {answer}"));
            let goes_back = !answer.is_empty() || self.random.below(8) == 0;
            if goes_back {
                run(&self.inside, "ROLLBACK TO s").await;
            }
            if !goes_back || !answer.is_empty() {
                done.push((statement, answer));
            }
        }
        let seen = Pair::state(&self.inside, "in_").await;
        if self.random.below(4) == 0 {
            run(&self.inside, "ROLLBACK").await;
            assert_eq!(Pair::state(&self.inside, "in_").await, before, "{log:#?}");
            log.push("ROLLBACK".into());
            return;
        }
        run(&self.inside, "COMMIT").await;
        log.push("COMMIT".into());
        assert_eq!(Pair::state(&self.inside, "in_").await, seen, "{log:#?}");
        for (statement, answer) in done {
            let outside = code(&self.outside, &statement.replace('@', "out_")).await;
            assert_eq!(outside, answer, "{statement}: {log:#?}");
        }
        let outside = Pair::state(&self.outside, "out_").await;
        assert_eq!(seen, outside, "{log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_blocks_do_what_their_statements_do() {
    let seed = variable("CHRONOS_MIGRATIONS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("CHRONOS_MIGRATIONS_SEED={seed}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let mut random = SplitMix(seed);
    let mut log = Vec::new();
    for round in 0..BLOCKS / 10 {
        let mut pair = Pair {
            random: SplitMix(random.next()),
            inside: connect(&node).await,
            outside: connect(&node).await,
        };
        for _ in 0..10 {
            pair.block(&mut log).await;
        }
        let before = Pair::state(&pair.inside, "in_").await;
        if round % 2 == 1 {
            node.kill();
            node = Node::start(directory.path());
            let client = connect(&node).await;
            assert_eq!(Pair::state(&client, "in_").await, before, "{log:#?}");
        }
    }
}

/// Foreign keys that a block makes, beside another session that writes their tables.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_that_a_block_makes_hold_when_it_commits() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let (a, b) = (connect(&node).await, connect(&node).await);
    run(
        &a,
        "CREATE TABLE q (id INT PRIMARY KEY); INSERT INTO q VALUES (1), (2)",
    )
    .await;
    // The parent is given periods meanwhile, which no foreign key goes with.
    run(
        &a,
        "BEGIN; CREATE TABLE qc (id INT PRIMARY KEY, x INT REFERENCES q); INSERT INTO qc VALUES (1, 1)",
    )
    .await;
    run(
        &b,
        "DELETE FROM q FOR PORTION OF VALID_TIME FROM now() + interval '1 hour' TO now() + interval '2 hours' WHERE id = 1",
    )
    .await;
    assert_eq!(code(&a, "COMMIT").await, "40001");
    assert_eq!(shown(&a, "SELECT * FROM qc").await, ["42P01"]);
    // A parent goes while its children get their key.
    run(
        &a,
        "CREATE TABLE p (id INT PRIMARY KEY); INSERT INTO p VALUES (1), (2);
         CREATE TABLE c (id INT PRIMARY KEY, x INT); INSERT INTO c VALUES (1, 1)",
    )
    .await;
    run(&a, "BEGIN; ALTER TABLE c ADD FOREIGN KEY (x) REFERENCES p").await;
    run(&b, "DELETE FROM p WHERE id = 1").await;
    assert_eq!(code(&a, "COMMIT").await, "40001");
    run(&b, "INSERT INTO p VALUES (1)").await;
    run(
        &a,
        "BEGIN; ALTER TABLE c ADD FOREIGN KEY (x) REFERENCES p ON DELETE CASCADE;
         INSERT INTO c VALUES (2, 2); COMMIT",
    )
    .await;
    assert_eq!(code(&b, "INSERT INTO c VALUES (3, 3)").await, "23503");
    node.kill();
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    assert_eq!(code(&client, "INSERT INTO c VALUES (3, 3)").await, "23503");
    run(&client, "DELETE FROM p WHERE id = 2").await;
    assert_eq!(shown(&client, "SELECT * FROM c").await, ["1 1"]);
}
