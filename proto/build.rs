//! Compiles the contract to prost types and to the descriptor set that reflection serves, and
//! beside it what the spans are exported with.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

/// The contract.
const FILES: [&str; 4] = [
    "kubemq.proto",
    "health.proto",
    "reflection_v1.proto",
    "reflection_v1alpha.proto",
];

/// What we speak as a client of collectors. No part of what reflection shows: we don't serve it.
const OTLP_FILES: [&str; 4] = [
    "opentelemetry/proto/common/v1/common.proto",
    "opentelemetry/proto/resource/v1/resource.proto",
    "opentelemetry/proto/trace/v1/trace.proto",
    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES.iter().chain(&OTLP_FILES) {
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

    // The packages name one another: one file nests their modules.
    prost_build::Config::new()
        .bytes(["."])
        .include_file("otlp.rs")
        .compile_fds(protox::compile(OTLP_FILES, ["."])?)?;
    Ok(())
}
