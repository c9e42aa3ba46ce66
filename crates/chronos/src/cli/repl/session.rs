//! One session of the prompt: settings, and the execution of statements and commands.

use std::io::{self, BufRead};

use chronos_env::Env;

use super::backend::Backend;
use super::complete::{Names, SharedNames};
use super::describe::{self, TableName};
use super::editor::SqlPrompt;
use super::interrupt::Interrupts;
use super::meta::{self, Meta};
use super::report::error_text;
use super::scanner::{first_word, Open, Scanner, Statement};
use crate::cli::args::Format;
use crate::cli::error::{tell, CliError};
use crate::cli::files;
use crate::cli::output::{Expanded, Printer};
use crate::cli::reply::{Progress, RunError, Transaction};

/// How deep `\i` may nest.
const INCLUDE_DEPTH_MAX: u32 = 16;
/// Of the statement with which the connection was lost.
const UNKNOWN: &str =
    "Whether the statement was done is not known (08007): look before you repeat it";

/// Why a script, or the prompt, goes no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A statement failed; it is reported. The exit code for it.
    Failed(u8),
    /// The person wants to leave.
    Quit,
    /// Nothing more can be done.
    Ended(CliError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Ended(error.into())
    }
}

/// Where statements come from; decides what an error looks like.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A person at the prompt.
    Prompt,
    /// A `-c` argument.
    Command { exit_code: u8 },
    /// A file, or stdin.
    Script { name: String, exit_code: u8 },
}

impl Source {
    /// A `-c` argument.
    pub(crate) fn command(exit_code: u8) -> Self {
        Self::Command { exit_code }
    }

    /// A file of this name.
    pub(crate) fn script(name: &str, exit_code: u8) -> Self {
        Self::Script {
            name: name.to_owned(),
            exit_code,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Prompt => 0,
            Self::Command { exit_code } | Self::Script { exit_code, .. } => *exit_code,
        }
    }

    /// `file:line: `, or nothing.
    fn place(&self, line: u64) -> String {
        match self {
            Self::Script { name, .. } => format!("{name}:{line}: "),
            _ => String::new(),
        }
    }
}

/// The state of the prompt.
pub(crate) struct Session {
    backend: Backend,
    printer: Printer,
    env: Env,
    interrupts: Interrupts,
    timing: bool,
    names: SharedNames,
    names_stale: bool,
    include_depth: u32,
}

impl Session {
    /// A session that prints to stdout.
    pub(crate) fn new(backend: Backend, format: Format, env: Env) -> Self {
        Self {
            backend,
            printer: Printer::stdout(format),
            env,
            interrupts: Interrupts::listen(),
            timing: false,
            names: SharedNames::default(),
            names_stale: true,
            include_depth: 0,
        }
    }

    /// The names completion knows; shared with the editor.
    pub(crate) fn names(&self) -> SharedNames {
        self.names.clone()
    }

    /// The prompt for this moment.
    pub(crate) fn prompt(&self) -> SqlPrompt {
        SqlPrompt::new(self.backend.database(), self.backend.transaction())
    }

    /// Hands the output over to the operating system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.printer.flush()
    }

    /// Ends the session.
    pub(crate) async fn close(self) {
        self.backend.close().await;
    }

    /// What the prompt begins with.
    pub(crate) fn greet(&mut self) -> Result<(), Stop> {
        let version = crate::cli::args::version_text();
        self.printer.raw(&format!(
            "chronos {version}. {}\nStatements end with ; \\? lists commands, \\h shows SQL by \
             example, \\q leaves.\n\n",
            self.backend.description()
        ))?;
        Ok(self.printer.flush()?)
    }

    /// Looks up the names for completion, if they may have changed.
    pub(crate) async fn refresh_names(&mut self) {
        if !self.names_stale || self.backend.transaction() == Transaction::Failed {
            return;
        }
        self.names_stale = false;
        match self.backend.query(&describe::names()).await {
            Ok(result) => {
                if let Ok(mut names) = self.names.write() {
                    *names = Names::from_result(&result);
                }
            }
            // Completion is a convenience: without names it offers keywords.
            Err(error) => tracing::debug!(%error, "no names for completion"),
        }
    }

    /// Runs every statement and command of `lines`, up to the first error.
    pub(crate) async fn script(
        &mut self,
        lines: &mut dyn BufRead,
        source: &Source,
    ) -> Result<(), Stop> {
        let mut scanner = Scanner::new();
        while let Some(line) = self.read_line(lines, source, &scanner)? {
            if scanner.open() == Open::Nothing && line.trim_start().starts_with('\\') {
                self.command(line.trim(), source).await?;
                scanner.skip_line();
                continue;
            }
            for statement in scanner.push(&line) {
                let consumed = self.statement(&statement, source, lines).await?;
                (0..consumed).for_each(|_| scanner.skip_line());
            }
        }
        match scanner.finish() {
            Some(statement) => self.statement(&statement, source, lines).await.map(|_| ()),
            None => Ok(()),
        }
    }

    fn read_line(
        &self,
        lines: &mut dyn BufRead,
        source: &Source,
        scanner: &Scanner,
    ) -> Result<Option<String>, Stop> {
        let mut line = Vec::new();
        let read = lines.read_until(b'\n', &mut line);
        let place = source.place(scanner.line());
        if let Err(error) = read {
            let message = format!("{place}cannot read on: {error}");
            return Err(Stop::Ended(CliError::Failed(message)));
        }
        if scanner.line() == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            return Ok(None);
        }
        String::from_utf8(line)
            .map(Some)
            .map_err(|_| Stop::Ended(CliError::Failed(format!("{place}the text is not UTF-8"))))
    }

    /// Runs one statement and prints its answer. COPY .. FROM STDIN takes its data from
    /// `lines`; the number of lines it took is returned.
    pub(crate) async fn statement(
        &mut self,
        statement: &Statement,
        source: &Source,
        lines: &mut dyn BufRead,
    ) -> Result<u64, Stop> {
        let verb = first_word(&statement.text);
        self.printer.keep_lines_whole(verb == "EXPLAIN");
        let started = self.env.clock.monotonic_nanos();
        self.interrupts.begin(self.backend.canceller());
        let result = self.execute(&statement.text, source, lines).await;
        self.interrupts.end();
        let elapsed = self.env.clock.monotonic_nanos().saturating_sub(started);
        if matches!(verb.as_str(), "CREATE" | "DROP" | "ALTER" | "ROLLBACK") {
            self.names_stale = true;
        }
        match result {
            Ok(consumed) => {
                if self.timing {
                    self.printer.say(&timing_text(elapsed))?;
                }
                self.printer.flush()?;
                Ok(consumed)
            }
            Err(error) => {
                self.printer.abandon()?;
                self.failed(error, statement, source).await
            }
        }
    }

    async fn execute(
        &mut self,
        sql: &str,
        source: &Source,
        lines: &mut dyn BufRead,
    ) -> Result<u64, RunError> {
        let printer = &mut self.printer;
        let progress = self
            .backend
            .run(sql, &mut |event| printer.event(event))
            .await?;
        if progress == Progress::Done {
            return Ok(0);
        }
        if matches!(source, Source::Prompt) {
            tell("Enter the data, one row per line. A line with only \\. ends it.");
        }
        let mut consumed = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = match lines.read_until(b'\n', &mut line) {
                Ok(read) => read,
                Err(error) => {
                    let reason = format!("the data cannot be read: {error}");
                    self.backend.copy_fail(&reason).await?;
                    return Ok(consumed);
                }
            };
            consumed += 1;
            let end = line.strip_suffix(b"\n").unwrap_or(&line);
            if read == 0 || end.strip_suffix(b"\r").unwrap_or(end) == b"\\." {
                break;
            }
            self.backend.copy_data(&line).await?;
        }
        let printer = &mut self.printer;
        self.backend
            .copy_finish(&mut |event| printer.event(event))
            .await?;
        Ok(consumed)
    }

    /// Reports an error and decides whether there is a next statement.
    async fn failed(
        &mut self,
        error: RunError,
        statement: &Statement,
        source: &Source,
    ) -> Result<u64, Stop> {
        match error {
            RunError::Sql(error) => {
                let place = source.place(statement.line);
                tell(&format!("{place}{}", error_text(&error, &statement.text)));
                Err(Stop::Failed(source.exit_code()))
            }
            RunError::Output(error) => Err(Stop::Ended(error.into())),
            RunError::Lost(reason) => {
                if !matches!(source, Source::Prompt) {
                    let place = source.place(statement.line);
                    let reason = format!("{reason}\n{place}{UNKNOWN}. What follows was not run.");
                    return Err(Stop::Ended(CliError::Lost(reason)));
                }
                tell(&format!("The connection was lost: {reason}."));
                match self.backend.reconnect().await {
                    Ok(()) => {
                        tell(&self.backend.description());
                        tell(&format!("{UNKNOWN}."));
                        Err(Stop::Failed(0))
                    }
                    Err(error) => Err(Stop::Ended(error)),
                }
            }
        }
    }

    /// Carries out a line that begins with a backslash.
    pub(crate) async fn command(&mut self, line: &str, source: &Source) -> Result<(), Stop> {
        let meta = match meta::parse(line) {
            Ok(meta) => meta,
            Err(problem) => return self.refuse(&problem, source),
        };
        match meta {
            Meta::Relations => self.show(&describe::relations(true), source).await?,
            Meta::Tables => self.show(&describe::relations(false), source).await?,
            Meta::Describe(name) => return self.describe(&name, source).await,
            Meta::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                let state = if self.timing { "on" } else { "off" };
                self.printer.say(&format!("Timing is {state}."))?;
            }
            Meta::Expanded(on) => {
                let on = on.unwrap_or(self.printer.expanded() != Expanded::Always);
                let (expanded, state) = match on {
                    true => (Expanded::Always, "on"),
                    false => (Expanded::WhenTooWide, "off"),
                };
                self.printer.set_expanded(expanded);
                self.printer.say(&format!("Expanded display is {state}."))?;
            }
            Meta::Format(Some(format)) => self.printer.set_format(format),
            Meta::Format(None) => {
                let format = format!("{:?}\n", self.printer.format()).to_lowercase();
                self.printer.raw(&format)?;
            }
            Meta::Include(file) => return Box::pin(self.include(&file, source)).await,
            Meta::Output(file) => match file.as_deref().map(files::create).transpose() {
                Ok(file) => self.printer.redirect(file.map(|file| file as _))?,
                Err(error) => return self.refuse(&error.to_string(), source),
            },
            Meta::Echo(text) => self.printer.raw(&format!("{text}\n"))?,
            Meta::Help => self.printer.raw(&format!("{}\n", meta::HELP))?,
            Meta::SqlHelp => self.printer.raw(&format!("{}\n", meta::SQL_HELP))?,
            Meta::ConnectionInfo => {
                let description = self.backend.description();
                self.printer.raw(&format!("{description}\n"))?;
            }
            Meta::Quit => return Err(Stop::Quit),
        }
        Ok(self.printer.flush()?)
    }

    fn refuse(&mut self, problem: &str, source: &Source) -> Result<(), Stop> {
        self.printer.flush()?;
        tell(problem);
        Err(Stop::Failed(source.exit_code()))
    }

    /// Runs a statement of our own and prints its answer.
    async fn show(&mut self, sql: &str, source: &Source) -> Result<(), Stop> {
        let statement = Statement {
            text: sql.to_owned(),
            line: 1,
        };
        // How long our own question took is not what `\timing` is about.
        let timing = std::mem::replace(&mut self.timing, false);
        let result = self.statement(&statement, source, &mut io::empty()).await;
        self.timing = timing;
        result.map(|_| ())
    }

    async fn describe(&mut self, name: &str, source: &Source) -> Result<(), Stop> {
        let table = match TableName::parse(name) {
            Ok(table) => table,
            Err(problem) => return self.refuse(&problem, source),
        };
        let columns = self.backend.query(&table.columns()).await;
        match columns {
            Ok(columns) if columns.rows.is_empty() => {
                return self.refuse(&format!("There is no table {name}."), source);
            }
            _ => self.show(&table.columns(), source).await?,
        }
        // A node that does not list its keys still lists its columns.
        if self.backend.transaction() != Transaction::Failed {
            if let Ok(key) = self.backend.query(&table.primary_key()).await {
                let names: Vec<String> = key.rows.into_iter().flatten().flatten().collect();
                if !names.is_empty() {
                    self.printer
                        .say(&format!("Primary key: ({})", names.join(", ")))?;
                }
            }
        }
        Ok(self.printer.flush()?)
    }

    async fn include(&mut self, file: &str, source: &Source) -> Result<(), Stop> {
        if self.include_depth >= INCLUDE_DEPTH_MAX {
            let problem = format!("\\i nests deeper than {INCLUDE_DEPTH_MAX} files at {file}");
            return self.refuse(&problem, source);
        }
        let mut lines = match files::open_script(file) {
            Ok(lines) => lines,
            Err(error) => return self.refuse(&error.to_string(), source),
        };
        self.include_depth += 1;
        let included = Source::script(file, source.exit_code());
        let result = self.script(&mut lines, &included).await;
        self.include_depth -= 1;
        result
    }
}

fn timing_text(nanos: u64) -> String {
    let ms = nanos as f64 / 1e6;
    if ms < 10_000.0 {
        format!("Time: {ms:.3} ms")
    } else {
        format!("Time: {ms:.0} ms ({:.1} s)", ms / 1e3)
    }
}

#[cfg(test)]
impl Session {
    /// A session whose answers are scripted and whose output a test can read.
    pub(super) fn for_tests(backend: Backend, out: Box<dyn io::Write>) -> Self {
        let mut printer = Printer::stdout(Format::Csv);
        assert!(printer.redirect(Some(out)).is_ok());
        Self {
            backend,
            printer,
            env: Env::simulated(1),
            interrupts: Interrupts::default(),
            timing: false,
            names: SharedNames::default(),
            names_stale: false,
            include_depth: 0,
        }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }
}
