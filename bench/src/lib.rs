//! Measurements of the parts of RingMQ: the benches are in `benches/`, the servers that set the
//! pace for the broker in `src/bin/`, and here what both the benches and the count of instructions
//! run, and the attacks that a broker has to bear.

#![forbid(unsafe_code)]

pub mod attacks;
pub mod parts;
