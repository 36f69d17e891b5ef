//! Listening sockets: one acceptor for each port, a bound on connections, and their fair spread.

mod acceptor;
mod addresses;

pub use acceptor::{Acceptor, BindError, Load, Loads};
pub use addresses::Addresses;
