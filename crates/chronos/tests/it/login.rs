//! Passwords and tokens: who is let in, by which protocol, and what is never written down.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::node::{request_as, Node};

/// A text that must not be found anywhere.
const PASSWORD: &str = "Correct-Horse-7";

/// A connection, and its end: the error that ended it, if one did.
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) ended: tokio::task::JoinHandle<Option<tokio_postgres::Error>>,
}

/// Connects as somebody.
pub(crate) async fn connect(
    node: &Node,
    user: &str,
    password: Option<&str>,
) -> Result<Connected, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(node.pg.port())
        .user(user)
        .dbname("chronos");
    if let Some(password) = password {
        config.password(password);
    }
    let (client, connection) = config.connect(NoTls).await?;
    let ended = tokio::spawn(async move { connection.await.err() });
    Ok(Connected { client, ended })
}

/// The code with which a connection is refused.
async fn refusal(node: &Node, user: &str, password: Option<&str>) -> Option<SqlState> {
    let refused = connect(node, user, password).await.err()?;
    refused.code().cloned()
}

fn start_with_admin(directory: &Path) -> Node {
    let password = directory.join("password");
    std::fs::write(&password, format!("{PASSWORD}\nnot this line\n")).expect("a file");
    let flags = [
        "--admin-password-file",
        password.to_str().expect("a name in UTF-8"),
        "--log-file",
        directory
            .to_str()
            .map(|d| format!("{d}/log.txt"))
            .expect("UTF-8")
            .leak(),
    ];
    Node::start_with(&directory.join("data"), &flags)
}

#[tokio::test]
async fn who_has_the_password_is_let_in_and_nobody_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut node = start_with_admin(directory.path());
    let wrong = Some(SqlState::INVALID_PASSWORD);
    assert_eq!(refusal(&node, "chronos", Some("wrong")).await, wrong);
    assert_eq!(refusal(&node, "nobody", Some(PASSWORD)).await, wrong);
    assert!(connect(&node, "chronos", None).await.is_err());

    let admin = connect(&node, "chronos", Some(PASSWORD))
        .await
        .expect("the admin");
    let admin = admin.client;
    let run = |sql: &'static str| admin.batch_execute(sql);
    run("CREATE USER ada PASSWORD 'Lovelace-1815' IN ROLE chronos_read_write")
        .await
        .unwrap();
    run("CREATE ROLE sleeper NOLOGIN PASSWORD 'x'")
        .await
        .unwrap();
    run("CREATE USER late PASSWORD 'x' VALID UNTIL '2020-01-01'")
        .await
        .unwrap();
    run("CREATE USER bare").await.unwrap();
    // Of the password "pencil", as PostgreSQL's dumps have it.
    run("CREATE USER dumped PASSWORD 'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU='").await.unwrap();
    assert_eq!(refusal(&node, "late", Some("x")).await, wrong);
    assert_eq!(refusal(&node, "bare", Some("")).await, wrong);
    let not_permitted = Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    assert_eq!(refusal(&node, "sleeper", Some("x")).await, not_permitted);
    assert_eq!(refusal(&node, "dumped", Some("pencil")).await, None);

    // Who changes his password needs the new one from then on.
    let ada = connect(&node, "ada", Some("Lovelace-1815"))
        .await
        .unwrap()
        .client;
    ada.batch_execute("ALTER USER ada PASSWORD 'Byron-1816'")
        .await
        .unwrap();
    assert_eq!(refusal(&node, "ada", Some("Lovelace-1815")).await, wrong);

    // A restart keeps all of it, also one without a farewell.
    node.kill();
    drop(node);
    let node = start_with_admin(directory.path());
    assert_eq!(refusal(&node, "ada", Some("Byron-1816")).await, None);
    assert_eq!(refusal(&node, "ada", Some("Lovelace-1815")).await, wrong);
    let admin = connect(&node, "chronos", Some(PASSWORD))
        .await
        .expect("the admin")
        .client;
    let rows = admin
        .query("SELECT * FROM pg_authid, pg_shadow", &[])
        .await
        .expect("rows");
    assert!(!format!("{rows:?}").contains("SCRAM"));
    node.stop();
    for secret in [PASSWORD, "Lovelace-1815", "Byron-1816"] {
        for place in ["data", "log.txt"] {
            assert!(
                !is_found(secret, &directory.path().join(place)),
                "{secret} in {place}"
            );
        }
    }
}

/// Whether a text is in a file, or in one of a directory.
fn is_found(text: &str, place: &Path) -> bool {
    if place.is_dir() {
        let entries = std::fs::read_dir(place).expect("a directory");
        return entries
            .map(|entry| entry.expect("an entry").path())
            .any(|path| is_found(text, &path));
    }
    let bytes = std::fs::read(place).expect("a file");
    memchr::memmem::find(&bytes, text.as_bytes()).is_some()
}

#[tokio::test]
async fn a_user_who_is_dropped_or_demoted_is_so_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start_with_admin(directory.path());
    let admin = connect(&node, "chronos", Some(PASSWORD))
        .await
        .expect("the admin")
        .client;
    let setup = "CREATE TABLE t (a INT PRIMARY KEY);
        CREATE USER ada PASSWORD 'x'; GRANT chronos_read_write TO ada;
        CREATE USER bob PASSWORD 'x'";
    for statement in setup.split(';') {
        admin.batch_execute(statement).await.expect(statement);
    }
    let ada = connect(&node, "ada", Some("x")).await.expect("ada");
    ada.client
        .batch_execute("INSERT INTO t VALUES (1)")
        .await
        .expect("she may");
    let revoke = "REVOKE chronos_read_write FROM ada";
    admin.batch_execute(revoke).await.expect(revoke);
    let denied = ada
        .client
        .batch_execute("INSERT INTO t VALUES (2)")
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert!(ada
        .client
        .query_one("SELECT current_user::text", &[])
        .await
        .is_ok());
    admin
        .batch_execute("DROP USER ada")
        .await
        .expect("DROP USER");
    let gone = ada.client.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(
        gone.code(),
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    );
    ada.ended.await.expect("the connection's task");
    assert!(ada.client.is_closed());
    let own = admin.batch_execute("DROP USER chronos").await.unwrap_err();
    assert_eq!(own.code(), Some(&SqlState::OBJECT_IN_USE));
}

#[test]
fn http_asks_who_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = [
        ("CHRONOS_AUTH_TOKEN_ADMIN", "admin-0123456789abcdef"),
        ("CHRONOS_AUTH_TOKEN_READONLY", "reader-0123456789abcdef"),
        ("CHRONOS_ADMIN_PASSWORD", "p:w"),
    ];
    let node = Node::start_in(directory.path(), &[], &tokens);
    let ask = |method: &str, path: &str, authorization: &str, body: &str| {
        let header = match authorization {
            "" => String::new(),
            value => format!("Authorization: {value}\r\n"),
        };
        request_as(node.http, method, path, &header, body).expect("an answer")
    };
    for path in ["/health", "/ready"] {
        assert_eq!(ask("GET", path, "", "").0, 200, "{path}");
    }
    let reading = r#"{"device_id":"d","ts":1704067200,"seq":1,"metrics":{"m":1}}"#;
    let create = r#"{"sql":"CREATE TABLE IF NOT EXISTS t (a INT)"}"#;
    let select = r#"{"sql":"SELECT current_user::text AS who"}"#;
    let (admin, reader) = (
        "Bearer admin-0123456789abcdef",
        "bearer reader-0123456789abcdef",
    );
    // chronos:p:w
    let user = "Basic Y2hyb25vczpwOnc=";
    for (method, path, body, statuses) in [
        ("GET", "/metrics", "", [401, 200, 200, 200]),
        ("POST", "/sql", select, [401, 200, 200, 200]),
        ("POST", "/sql", create, [401, 200, 403, 200]),
        ("POST", "/ingest", reading, [401, 200, 403, 200]),
        ("POST", "/admin/check", "", [401, 200, 403, 200]),
    ] {
        for (who, status) in ["", admin, reader, user].into_iter().zip(statuses) {
            let (found, answer) = ask(method, path, who, body);
            assert_eq!(found, status, "{method} {path} as {who:?}: {answer}");
            assert_eq!(
                status == 401,
                answer.contains("www-authenticate: Basic"),
                "{answer}"
            );
        }
    }
    for nobody in [
        "Bearer admin-0123456789abcdeg",
        "Basic Y2hyb25vczpwOng=",
        "Basic ?",
        "Digest x",
    ] {
        assert_eq!(ask("POST", "/sql", nobody, select).0, 401, "{nobody}");
    }
    let (_, answer) = ask("POST", "/sql", user, select);
    assert!(answer.contains("\"chronos\""), "{answer}");
}

fn start_and_fail(flags: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_chronos"))
        .args(["start", "--data-dir"])
        .arg(directory.path())
        .args(flags)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the chronos binary runs");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_node_that_nobody_could_log_in_to_does_not_start() {
    let elsewhere = ["--pg-address", "0.0.0.0:0", "--http-address", "127.0.0.1:0"];
    let (code, said) = start_and_fail(&elsewhere, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--admin-password-file") && said.contains("--auth trust"),
        "{said}"
    );
    let (code, said) = start_and_fail(&["--auth", "password"], &[]);
    assert_eq!(code, Some(2), "{said}");
    let short = [("CHRONOS_AUTH_TOKEN_ADMIN", "short")];
    let (code, said) = start_and_fail(&[], &short);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("CHRONOS_AUTH_TOKEN_ADMIN") && !said.contains("short"),
        "{said}"
    );
}

/// Runs `chronos client` without a terminal.
pub(crate) fn client(url: &str, flags: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chronos"))
        .args(["client", "--url", url, "--format", "csv"])
        .args(flags)
        .env_remove("PGPASSWORD")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the chronos binary runs")
}

#[test]
fn the_client_finds_its_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start_with_admin(directory.path());
    let url = node.url();
    let who = ["-c", "SELECT current_user::text AS who"];
    let file = directory.path().join("password");
    let file = file.to_str().expect("UTF-8");
    let pgpass = directory.path().join("pgpass");
    let line = format!("127.0.0.1:{}:*:chronos:{PASSWORD}\n", node.pg.port());
    std::fs::write(&pgpass, line).expect("a file");
    let pgpass_name = pgpass.to_str().expect("UTF-8");
    let is_let_in = |flags: &[&str], variables: &[(&str, &str)]| {
        let output = client(&url, &[&who[..], flags].concat(), variables);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!told.contains(PASSWORD), "{told}");
        (output.status.success(), told)
    };
    assert!(is_let_in(&["--password-file", file], &[]).0);
    assert!(is_let_in(&[], &[("PGPASSWORD", PASSWORD)]).0);
    let (others_may_read, told) = is_let_in(&[], &[("PGPASSFILE", pgpass_name)]);
    assert!(!others_may_read && told.contains("chmod 600"), "{told}");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&pgpass, private).expect("chmod");
    assert!(is_let_in(&[], &[("PGPASSFILE", pgpass_name)]).0);
    let (wrong, told) = is_let_in(&[], &[("PGPASSWORD", "wrong")]);
    assert!(
        !wrong && told.contains("password authentication failed"),
        "{told}"
    );
    let (none, told) = is_let_in(&[], &[("PGPASSFILE", "/nonexistent")]);
    assert!(!none && told.contains("--password-file"), "{told}");
}

#[test]
fn psql_logs_in() {
    if !crate::clients::works("psql", &["--version"]) {
        return crate::clients::skip("psql", "not in PATH");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let node = start_with_admin(directory.path());
    let psql = |sql: &str, password: Option<&str>| {
        let mut command = Command::new("psql");
        command.args(["-w", "-X", "-A", "-t", "-c", sql, &node.url()]);
        command.env_remove("PGPASSWORD").stdin(Stdio::null());
        command.envs(password.map(|password| ("PGPASSWORD", password)));
        let output = command.output().expect("psql runs");
        let (out, err) = (output.stdout, output.stderr);
        (
            output.status.success(),
            format!(
                "{}{}",
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&err)
            ),
        )
    };
    assert_eq!(
        psql("SELECT session_user", Some(PASSWORD)),
        (true, "chronos\n".to_owned())
    );
    let (is_in, told) = psql("SELECT 1", Some("wrong"));
    assert!(
        !is_in && told.contains("password authentication failed"),
        "{told}"
    );
    let (is_in, told) = psql("SELECT 1", None);
    assert!(!is_in && told.contains("no password supplied"), "{told}");
    let create = "CREATE USER ada PASSWORD 'x' IN ROLE chronos_read_only";
    assert!(psql(create, Some(PASSWORD)).0);
    let (is_in, told) = psql("\\du", Some(PASSWORD));
    assert!(is_in, "{told}");
    let line = told.lines().find(|line| line.starts_with("ada|"));
    assert!(
        line.is_some_and(|line| line.contains("chronos_read_only")),
        "{told}"
    );
}
