# Shorthands; CI runs `.ci/run`, which needs none of these tools. What is not installed is skipped
# with a line that says so.

# Everything that CI runs, and what it cannot.
check: fmt lint test doc deny

fmt:
    cargo fmt --all -- --check

lint:
    cargo clippy --workspace --all-targets -- -D warnings

# The README's test command.
test:
    cargo test --workspace

# The rules that no lint knows: layers, sizes, links.
tidy:
    cargo test --test tidy

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Licences, advisories, one TLS stack, no second runtime.
deny:
    @if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
    else echo "skipped: cargo-deny is not installed"; fi

# The suites that drive the broker with the official SDKs.
sdk:
    cargo test --test sdk -- --nocapture

# Raw HTTP/2 frames; with h2spec on the PATH, the generic suite too.
h2:
    cargo test --test h2 --test process

bench:
    cargo bench --workspace

# A disturbed machine for 15 minutes: `just soak 60` for one.
soak seconds="900":
    cargo build --release
    target/sdk-venv/bin/python tests/soak/run.py --seconds {{seconds}} --binary target/release/ringmq

# Undefined behaviour in the storage crate; its file system is on the heap there.
miri:
    @if cargo +nightly miri --version >/dev/null 2>&1; then \
    MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p ringmq-storage \
    --test golden --test codec --test fuzz_smoke; \
    else echo "skipped: miri is not installed"; fi

# One fuzz target: segment, checkpoint, segment_index, record_payload. `cargo test` runs each for
# some seconds, without a nightly toolchain.
fuzz target="segment" seconds="60":
    @if cargo +nightly fuzz --version >/dev/null 2>&1; then \
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{target}} -- -max_total_time={{seconds}}; \
    else echo "skipped: cargo-fuzz is not installed"; fi
