//! What came of the scripts: lines for people, and a summary in JSON.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

/// Lines of an expectation, or of an answer, that are shown.
const LINES_SHOWN: usize = 20;

/// A record that failed.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Failed {
    /// `file:line`
    pub(crate) at: String,
    pub(crate) sql: String,
    pub(crate) why: String,
    pub(crate) expected: Vec<String>,
    pub(crate) actual: Vec<String>,
}

/// What came of one file.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct FileReport {
    pub(crate) file: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// By `onlyif`, `skipif` and `halt`.
    pub(crate) skipped: usize,
    /// Why the file as a whole could not be run, or not to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) failures: Vec<Failed>,
}

impl FileReport {
    pub(crate) fn new(file: &str) -> FileReport {
        FileReport {
            file: file.to_owned(),
            passed: 0,
            failed: 0,
            skipped: 0,
            error: None,
            seconds: 0.0,
            failures: Vec::new(),
        }
    }

    fn is_success(&self) -> bool {
        self.failed == 0 && self.error.is_none()
    }

    /// Prints it at once, so that lines of files that run side by side do not mix.
    pub(crate) fn print(&self, all_failures: bool) {
        let mut text = format!(
            "{} {}: {} passed, {} failed",
            if self.is_success() { "ok  " } else { "FAIL" },
            self.file,
            self.passed,
            self.failed
        );
        if self.skipped > 0 {
            text.push_str(&format!(", {} skipped", self.skipped));
        }
        text.push_str(&format!(" ({:.1} s)\n", self.seconds));
        if let Some(error) = &self.error {
            text.push_str(&format!("     {error}\n"));
        }
        let shown = if all_failures { self.failures.len() } else { 1 };
        for failure in self.failures.iter().take(shown) {
            failure.show(&mut text);
        }
        print(&text);
    }
}

impl Failed {
    fn show(&self, text: &mut String) {
        text.push_str(&format!("     {}: {}\n", self.at, self.why));
        let mut part = |title: &str, lines: &mut dyn Iterator<Item = &str>| {
            let lines: Vec<&str> = lines.collect();
            if lines.is_empty() {
                return;
            }
            text.push_str(&format!("       {title}:\n"));
            for line in lines.iter().take(LINES_SHOWN) {
                text.push_str(&format!("         {line}\n"));
            }
            if lines.len() > LINES_SHOWN {
                text.push_str(&format!("         .. {} lines\n", lines.len()));
            }
        };
        part("statement", &mut self.sql.lines());
        part("expected", &mut self.expected.iter().map(String::as_str));
        part("actual", &mut self.actual.iter().map(String::as_str));
    }
}

/// What came of all files.
#[derive(Serialize, Debug)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Files that could not be run, or not to their end.
    broken_files: usize,
    files: Vec<FileReport>,
}

impl Report {
    /// Sums up.
    pub(crate) fn of(mut files: Vec<FileReport>) -> Report {
        files.sort_by(|a, b| a.file.cmp(&b.file));
        Report {
            passed: files.iter().map(|f| f.passed).sum(),
            failed: files.iter().map(|f| f.failed).sum(),
            skipped: files.iter().map(|f| f.skipped).sum(),
            broken_files: files.iter().filter(|f| f.error.is_some()).count(),
            files,
        }
    }

    /// Whether every record of every file passed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.broken_files == 0
    }

    pub(crate) fn print_total(&self) {
        let good = self.files.iter().filter(|f| f.is_success()).count();
        print(&format!(
            "{} files, {good} without failures; records: {} passed, {} failed, {} skipped; {} files could not be run to their end\n",
            self.files.len(),
            self.passed,
            self.failed,
            self.skipped,
            self.broken_files
        ));
    }

    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

/// A reader who has gone away (`| head`) is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
