#![no_main]

#[path = "../peer.rs"]
#[allow(dead_code, reason = "shared by all targets")]
mod peer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    peer::configuration(data);
});
