//! TLS: certificates that are good, and others, with our own client and with foreign ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::clients::{skip, works};
use crate::login::client;
use crate::node::{repository, request_as, Node};

/// An authority that makes certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Authority { pem, issuer }
    }

    /// A certificate and its key, as PEM.
    pub(crate) fn certificate(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let params = CertificateParams::new(names).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// Files of a node and its clients.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let directory = tempfile::tempdir().expect("a directory");
        Files { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("a file");
        self.name(name)
    }

    /// Puts a certificate of that authority where the node looks for one.
    fn certify(&self, authority: &Authority, names: &[&str]) {
        let (certificate, key) = authority.certificate(names);
        // The key first: between the two writes they do not go together, and the old ones stay.
        self.write("server.key", &key);
        self.write("server.crt", &certificate);
    }

    fn start(&self, flags: &[&str]) -> Node {
        let (certificate, key) = (self.name("server.crt"), self.name("server.key"));
        let own = ["--tls-cert", &certificate, "--tls-key", &key];
        let admin = [("CHRONOS_ADMIN_PASSWORD", "s3cret")];
        Node::start_in(&self.path("data"), &[&own[..], flags].concat(), &admin)
    }
}

fn url(node: &Node, host: &str, parameters: &str) -> String {
    let port = node.pg.port();
    format!("postgres://chronos@{host}:{port}/chronos?{parameters}")
}

const PASSWORD: [(&str, &str); 1] = [("PGPASSWORD", "s3cret")];

/// Whether our client gets in, and what it says.
fn connects(url: &str) -> (bool, String) {
    let output = client(url, &["-c", "SELECT 1 AS one"], &PASSWORD);
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), told)
}

#[test]
fn who_must_use_tls_does_and_looks_at_the_certificate() {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.certify(&ours, &["localhost"]);
    let root = files.write("ours.crt", &ours.pem);
    let other = files.write("other.crt", &Authority::new("other").pem);
    let node = files.start(&["--tls", "require"]);
    for (host, parameters, is_good) in [
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={root}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={root}"),
            false,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={root}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            false,
        ),
        (
            "127.0.0.1",
            format!("sslmode=require&sslrootcert={other}"),
            false,
        ),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
    ] {
        let (is_in, told) = connects(&url(&node, host, &parameters));
        assert_eq!(is_in, is_good, "{host} {parameters}: {told}");
        assert_eq!(
            told.contains("no encryption"),
            parameters == "sslmode=disable",
            "{told}"
        );
    }
    let (status, answer) = request_as(node.http, "GET", "/health", "", "").expect("an answer");
    assert_eq!(status, 403, "{answer}");
}

/// What is done over HTTP: looking after members, checking, backing up.
#[test]
fn commands_speak_https_to_whom_the_authority_vouches_for() {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.certify(&ours, &["localhost"]);
    let root = files.write("ours.crt", &ours.pem);
    let other = files.write("other.crt", &Authority::new("other").pem);
    let node = files.start(&["--tls", "require"]);
    let port = node.http.port();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_chronos"))
            .args(arguments)
            .args(["-U", "chronos"])
            .envs(PASSWORD)
            .env_remove("PGSSLROOTCERT")
            .env("HOME", files.path("nobody"))
            .stdin(Stdio::null())
            .output()
            .expect("the chronos binary runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told)
    };
    let https = format!("https://localhost:{port}");
    let snapshot = files.name("all.chronos");
    for command in [
        vec!["admin", "members", "--url", &https],
        vec!["admin", "check", "--url", &https],
        vec!["admin", "check", "--cluster", "--url", &https],
        vec!["snapshot", "create", "--output", &snapshot, "--url", &https],
    ] {
        let (is_good, told) = run(&[&command[..], &["--tls-ca-cert", &root]].concat());
        assert!(is_good, "{command:?}: {told}");
    }
    let members = |url: &str, flags: &[&str]| {
        let (is_good, told) = run(&[&["admin", "members", "--url", url][..], flags].concat());
        assert!(!is_good, "{url} {flags:?}");
        told
    };
    let told = members(&https, &["--tls-ca-cert", &other]);
    assert!(told.contains("TLS"), "{told}");
    let by_address = format!("https://127.0.0.1:{port}");
    let told = members(&by_address, &["--tls-ca-cert", &root]);
    assert!(told.contains("TLS"), "{told}");
    let told = members(&https, &[]);
    assert!(told.contains("root.crt"), "{told}");
    let told = members(&format!("http://localhost:{port}"), &[]);
    assert!(told.contains("TLS"), "{told}");
    let named = ["--tls-ca-cert", &root, "--tls-domain", "localhost"];
    let (is_good, told) = run(&[&["admin", "members", "--url", &by_address][..], &named].concat());
    assert!(is_good, "{told}");
}

#[test]
fn certificates_are_read_again() {
    let files = Files::new();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    files.certify(&first, &["localhost"]);
    let first_root = files.write("first.crt", &first.pem);
    let second_root = files.write("second.crt", &second.pem);
    let node = files.start(&[]);
    let verified = |root: &str| {
        let parameters = format!("sslmode=verify-full&sslrootcert={root}");
        connects(&url(&node, "localhost", &parameters)).0
    };
    assert!(verified(&first_root) && !verified(&second_root));
    // What cannot be used leaves things as they are.
    files.write("server.key", "nonsense");
    node.hang_up();
    assert!(verified(&first_root));
    files.certify(&second, &["localhost"]);
    node.hang_up();
    let mut tries = 0;
    while !verified(&second_root) {
        tries += 1;
        assert!(tries < 200, "the new certificate is not served");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!verified(&first_root));
}

#[test]
fn clients_show_certificates_where_they_must() {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.certify(&ours, &["localhost"]);
    let root = files.write("ours.crt", &ours.pem);
    let (certificate, key) = ours.certificate(&["ada"]);
    let (strange_certificate, strange_key) = Authority::new("other").certificate(&["ada"]);
    let shown = |name: &str, certificate: &str, key: &str| {
        let certificate = files.write(&format!("{name}.crt"), certificate);
        let key = files.write(&format!("{name}.key"), key);
        format!("sslmode=require&sslcert={certificate}&sslkey={key}")
    };
    let good = shown("ada", &certificate, &key);
    let strange = shown("eve", &strange_certificate, &strange_key);
    let node = files.start(&["--tls-ca-cert", &root, "--tls-client-cert", "required"]);
    assert!(connects(&url(&node, "localhost", &good)).0);
    assert!(!connects(&url(&node, "localhost", &strange)).0);
    assert!(!connects(&url(&node, "localhost", "sslmode=require")).0);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let ours = Authority::new("ours");
    let (certificate, key) = ours.certificate(&["localhost"]);
    let (_, other_key) = ours.certificate(&["localhost"]);
    let certificate = files.write("a.crt", &certificate);
    let key = files.write("a.key", &key);
    let other_key = files.write("b.key", &other_key);
    let empty = files.write("empty", "");
    for (flags, said) in [
        (
            vec!["--tls-cert", &certificate, "--tls-key", &other_key],
            "it is not the key of the certificate",
        ),
        (
            vec!["--tls-cert", &empty, "--tls-key", &key],
            "holds no PEM certificate",
        ),
        (
            vec!["--tls-cert", &certificate, "--tls-key", &empty],
            "holds no PEM private key",
        ),
        (
            vec!["--tls-cert", "/nonexistent", "--tls-key", &key],
            "cannot read /nonexistent",
        ),
        (vec!["--tls-cert", &certificate], "--tls-key"),
        (
            vec![
                "--tls-cert",
                &certificate,
                "--tls-key",
                &key,
                "--tls-domain",
                "db.example",
            ],
            "it is not for \"db.example\"",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_chronos"))
            .args(["start", "--data-dir", &files.name("data")])
            .args(&flags)
            .stdin(Stdio::null())
            .output()
            .expect("the chronos binary runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains(said),
            "{flags:?}: {told}"
        );
    }
}

/// Runs a foreign client, and expects 0.
fn succeeds(command: &mut Command) {
    let output = command
        .env("PGPASSWORD", "s3cret")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn verified_node() -> (Files, Node, String) {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.certify(&ours, &["localhost"]);
    let root = files.write("ours.crt", &ours.pem);
    let node = files.start(&["--tls", "require"]);
    let url = url(
        &node,
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={root}"),
    );
    (files, node, url)
}

#[test]
fn psql_verifies_and_binds() {
    if !works("psql", &["--version"]) {
        return skip("psql", "not in PATH");
    }
    let (_files, _node, url) = verified_node();
    let select = ["-w", "-X", "-c", "SELECT 1"];
    // Bound to the channel or not at all.
    let bound = format!("{url}&channel_binding=require");
    succeeds(Command::new("psql").args(select).arg(&bound));
    let unbound = format!("{url}&channel_binding=disable");
    succeeds(Command::new("psql").args(select).arg(&unbound));
}

/// The script takes the URL and the driver, and checks by itself that a wrong password fails.
fn python(driver: &str) {
    let python = std::env::var("CHRONOS_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !works(&python, &["-c", &format!("import {driver}")]) {
        return skip(driver, &format!("{python} cannot import {driver}"));
    }
    let (_files, _node, url) = verified_node();
    let script: &Path = &repository().join("tests/clients/tls_test.py");
    succeeds(Command::new(python).arg(script).arg(&url).arg(driver));
}

#[test]
fn psycopg_verifies() {
    python("psycopg");
}

#[test]
fn asyncpg_verifies() {
    python("asyncpg");
}
