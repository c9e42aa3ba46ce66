//! Makes `src/grpc/generated/` of the crate `chronos-server` out of its `.proto` file:
//! `cargo run --manifest-path crates/server/proto/generate/Cargo.toml`.
//!
//! The generated code is checked in. The file `replication.proto.sha256` beside it says what it was
//! made of; a test compares that with the `.proto` file, which needs no compiler.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

const PROTO: &str = "chronos/replication/v1/replication.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let proto_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = proto_dir.join("../src/grpc/generated");
    fs::create_dir_all(&out)?;
    let descriptors = protox::compile([PROTO], [&proto_dir])?;
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(&out)
        .compile_fds(descriptors.clone())?;
    // Reflection wants names and numbers; comments and positions would only make it larger.
    let mut described = descriptors;
    for file in &mut described.file {
        file.source_code_info = None;
    }
    fs::write(out.join("replication.descriptors"), described.encode_to_vec())?;
    let digest = Sha256::digest(fs::read(proto_dir.join(PROTO))?);
    let mut hex = digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    hex.push('\n');
    fs::write(out.join("replication.proto.sha256"), hex)?;
    Ok(())
}
