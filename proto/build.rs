//! Compiles the contract to prost types and to the descriptor set that reflection serves.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 4] = [
    "kubemq.proto",
    "health.proto",
    "reflection_v1.proto",
    "reflection_v1alpha.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut descriptors = protox::compile(FILES, ["."])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors.clone())?;

    // Comments and positions are of no use on the wire.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
