//! stub
use super::{args::DemoArgs, error::CliError};
use chronos_env::Env;
pub(crate) async fn run(_a: DemoArgs, _e: &Env) -> Result<(), CliError> {
    Ok(())
}
