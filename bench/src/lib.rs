//! Measurements of the parts of RingMQ: the benches are in `benches/`, the servers that set the
//! pace for the broker in `src/bin/`.

#![forbid(unsafe_code)]
