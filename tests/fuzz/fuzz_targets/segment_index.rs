#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "shared by all targets")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::segment_index(data);
});
