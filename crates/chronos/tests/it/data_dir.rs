//! What is said of a data directory that cannot be used.

use std::fs;

use chronos::Database;

async fn refusal(dir: &std::path::Path) -> String {
    match Database::open(dir).await {
        Ok(_) => panic!("{} was opened", dir.display()),
        Err(e) => e.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_open_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = Database::open(dir.path()).await.unwrap();
    let refused = refusal(dir.path()).await;
    let pid = std::process::id().to_string();
    assert!(
        refused.contains("in use") && refused.contains(&pid),
        "{refused}"
    );
    first.close().await.unwrap();
    Database::open(dir.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_opened_is_not_called_in_use() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("LOCK")).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("LOCK: Is a directory"), "{refused}");
    assert!(!refused.contains("in use"), "{refused}");
}

/// Without its log a store would silently be an older state.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_removed_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).await.unwrap();
    db.execute("CREATE TABLE t (id INT PRIMARY KEY)", &[])
        .await
        .unwrap();
    db.close().await.unwrap();
    for entry in fs::read_dir(dir.path().join("log")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for _ in 0..2 {
        let refused = refusal(dir.path()).await;
        assert!(refused.contains("the log has no file"), "{refused}");
    }
}
