//! `store-bench`: the store of Chronos by itself, beside embedded engines, file formats and codecs.
//!
//! It owns what it measures: every engine runs in a child process of its own on a directory of
//! its own, all of which are gone afterwards. It links neither the query engine nor a server, and
//! it judges nothing: it prints figures, says where a floor is met, and exits 0 whatever they are.
//!
//! ```text
//! args ── suite ── codecs   codec/: bytes per value, encode, decode
//!           ├───── store    child process per engine (engine/) ── report
//!           ├───── hot-key  one key with a million versions
//!           └───── growth   one table as it grows ── chart
//! ```

mod args;
mod codec;
mod data;
mod engine;
mod error;
mod machine;
mod report;
mod scratch;
mod suite;

use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match args::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("store-bench: {error}\n\n{}", args::HELP);
            return ExitCode::from(2);
        }
    };
    match suite::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("store-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
