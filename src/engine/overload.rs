//! When there is more to do than can be done, and what follows from that.
//!
//! Three judges, each of one thing:
//!
//! | judge | of what | answer |
//! |---|---|---|
//! | [`StandingDelay`] | those who wait at a door | whether newcomers are to be turned away |
//! | [`RoomControl`] | commits | how much may be behind the door, so that it waits little |
//! | [`Saturation`] | a processor | whether it has more to do than it can |
//!
//! A queue that is long at times does its work: it takes up a burst. One that never gets short adds
//! its length to every wait and gains nothing. So what is judged is the least wait over a while,
//! not the mean (Nichols and Jacobson, Controlling Queue Delay, 2012).

mod room;
mod saturation;
mod standing;

pub use room::RoomControl;
pub use saturation::Saturation;
pub use standing::StandingDelay;
