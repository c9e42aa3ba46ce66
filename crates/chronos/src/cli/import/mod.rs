//! stub
use super::{args::ImportArgs, error::CliError};
use chronos_env::Env;
pub(crate) async fn run(_a: ImportArgs, _e: &Env) -> Result<(), CliError> {
    Ok(())
}
