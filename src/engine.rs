//! The rules of the messaging patterns, as plain state machines.
//!
//! Nothing in here reads a clock, draws a random number, does I/O, logs or waits: time and
//! randomness are arguments, effects are return values. A shard owns one of each structure, calls
//! it from its one executor and carries out what it decides. That is what lets the tests drive the
//! rules by the thousand against small models.
//!
//! | module | what it decides |
//! |---|---|
//! | [`wheel`] | which timers are due |
//! | [`clock`] | what time it is, also when the clock was set back |
//! | [`subscriptions`] | who gets a message on a channel |
//! | [`cache`] | whether a query was answered recently |
//! | [`pending`] | which caller a response belongs to |
//! | [`stored`] | what stored channels are, and what is written next |
//! | [`runs`] | which sequences are in a set |
//! | [`queues`] | which consumer has which message of a queue |
//! | [`traffic`] | what went over each channel |
//! | [`clients`] | what clients did |
//! | [`fairness`] | what one peer may take of what all share |
//! | [`overload`] | when there is more to do than can be done |
//! | [`feeds`] | which receiver of a stored channel gets which messages next |

mod arena;
pub mod cache;
pub mod clients;
pub mod clock;
pub mod fairness;
pub mod feeds;
pub mod overload;
pub mod pending;
pub mod queues;
pub mod runs;
pub mod stored;
pub mod subscriptions;
pub mod traffic;
pub mod wheel;
