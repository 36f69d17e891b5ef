//! Master keys of a simulated life: a log may be plain, encrypted, or change at every opening.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Random;
use crate::cipher::{Entropy, Keyring};

/// Random bytes that are the same for the same seed.
#[derive(Debug)]
struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        for part in bytes.chunks_mut(8) {
            let mut random = Random::new(self.0.fetch_add(1, Ordering::Relaxed));
            let number = random.next().to_le_bytes();
            part.copy_from_slice(number.get(..part.len()).unwrap_or_default());
        }
        Ok(())
    }
}

/// The master keys of a life, by its openings.
#[derive(Debug)]
pub struct Keys {
    habit: Habit,
    random: Random,
    entropy: Arc<Seeded>,
}

#[derive(Clone, Copy, Debug)]
enum Habit {
    Plain,
    Encrypted,
    Changing,
}

/// The master keys that there are.
const KEYS: [&str; 3] = [
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddee01",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddee02",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddee03",
];

impl Keys {
    /// Chosen by the seed: half of the lives are plain.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let habit = match seed / 2 % 4 {
            0 | 1 => Habit::Plain,
            2 => Habit::Encrypted,
            _ => Habit::Changing,
        };
        Self {
            habit,
            random: Random::new(!seed),
            entropy: Arc::new(Seeded(AtomicU64::new(seed << 24))),
        }
    }

    /// None: a plain life.
    #[must_use]
    pub fn plain() -> Self {
        Self::new(0)
    }

    /// The keys of the next opening. All of them read what any of them wrote.
    ///
    /// # Panics
    /// Never: the keys are sound.
    pub fn next_opening(&mut self) -> Keyring {
        let first = match self.habit {
            Habit::Plain => return Keyring::default(),
            Habit::Encrypted => 0,
            Habit::Changing => self.random.below(4),
        };
        let mut keys = KEYS;
        keys.rotate_left(first % KEYS.len());
        let keyring = Keyring::parse(&keys.join("\n")).expect("the keys are sound");
        let keyring = keyring.with_entropy(self.entropy.clone());
        if first == KEYS.len() {
            keyring.reading_only()
        } else {
            keyring
        }
    }
}
