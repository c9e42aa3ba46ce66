//! The SQL prompt, and its non-interactive forms (`-c`, `-f`, stdin).
//!
//! ```text
//!   keys ─► editor ─┐
//!   file, stdin, -c ┴► scanner ─► statement ─► backend ─► events ─► output
//!                              └► \command  ─► meta
//! ```
//!
//! At the prompt an error is shown and the next statement awaited. In a script the
//! first error ends everything, because what follows was written for its success.

mod backend;
mod complete;
mod describe;
mod editor;
mod interrupt;
mod meta;
mod report;
mod scanner;
mod session;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, IsTerminal};

use chronos_env::Env;
use reedline::Signal;

use super::args::ScriptArgs;
use super::error::CliError;
use super::files;
pub(crate) use backend::Backend;
pub(crate) use describe::TableName;
pub(crate) use report::error_text;
use scanner::Scanner;
use session::{Session, Source, Stop};

/// Exit code when a `-c` statement fails.
const COMMAND_FAILED: u8 = 1;
/// Exit code when a statement of a script fails.
const SCRIPT_FAILED: u8 = 3;

/// Runs what the arguments ask for on `backend`: commands, files, stdin, or the prompt.
pub(crate) async fn run(backend: Backend, script: &ScriptArgs, env: &Env) -> Result<(), CliError> {
    let mut session = Session::new(backend, script.format, env.clone());
    let result = dispatch(&mut session, script).await;
    let flushed = session.flush();
    session.close().await;
    match result {
        Ok(()) | Err(Stop::Quit) => flushed.map_err(CliError::from),
        Err(Stop::Failed(code)) => Err(CliError::Reported(code)),
        Err(Stop::Ended(error)) => Err(error),
    }
}

async fn dispatch(session: &mut Session, script: &ScriptArgs) -> Result<(), Stop> {
    if script.commands.is_empty() && script.files.is_empty() {
        if io::stdin().is_terminal() {
            return prompt(session).await;
        }
        let mut stdin = files::open_script("-").map_err(Stop::Ended)?;
        return session
            .script(&mut stdin, &Source::script("<stdin>", SCRIPT_FAILED))
            .await;
    }
    for command in &script.commands {
        let mut lines = io::Cursor::new(command);
        session
            .script(&mut lines, &Source::command(COMMAND_FAILED))
            .await?;
    }
    for file in &script.files {
        let mut lines = files::open_script(file).map_err(Stop::Ended)?;
        let name = if file == "-" { "<stdin>" } else { file };
        session
            .script(&mut lines, &Source::script(name, SCRIPT_FAILED))
            .await?;
    }
    Ok(())
}

/// The interactive loop.
async fn prompt(session: &mut Session) -> Result<(), Stop> {
    let mut editor = editor::editor(session.names());
    session.greet()?;
    let source = Source::Prompt;
    loop {
        session.refresh_names().await;
        let prompt = session.prompt();
        let signal = editor.read_line(&prompt).map_err(|error| {
            Stop::Ended(CliError::Failed(format!("the prompt failed: {error}")))
        })?;
        let input = match signal {
            Signal::Success(input) => input,
            Signal::CtrlD => return Err(Stop::Quit),
            _ => continue,
        };
        let outcome = match input.trim() {
            "" => continue,
            "exit" | "quit" => return Err(Stop::Quit),
            "help" => session.command("\\?", &source).await,
            trimmed if trimmed.starts_with('\\') => session.command(trimmed, &source).await,
            _ => statements(session, &input).await,
        };
        match outcome {
            Ok(()) | Err(Stop::Failed(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
}

/// Runs the statements of one input at the prompt, up to the first error.
async fn statements(session: &mut Session, input: &str) -> Result<(), Stop> {
    let mut scanner = Scanner::new();
    let mut found = scanner.push(input);
    found.extend(scanner.finish());
    for statement in found {
        let mut stdin: Box<dyn BufRead> = Box::new(io::stdin().lock());
        session
            .statement(&statement, &Source::Prompt, &mut *stdin)
            .await?;
    }
    Ok(())
}
