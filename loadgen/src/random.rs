//! Seeded randomness: the same seed sends the same messages at the same times.

/// A stream of numbers (`SplitMix64`): far apart for neighbouring seeds, good enough for sizes and
/// gaps, and a few instructions each.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// The stream of `seed` for one of its users: `of` tells producers and purposes apart.
    pub(crate) fn new(seed: u64, of: &[u64]) -> Self {
        let mut random = Self { state: seed };
        for part in of {
            random.state = random.next() ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        }
        random
    }

    /// Any number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number above 0, up to 1 and with 1: its logarithm is finite.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    pub(crate) const fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `bound`, each as likely (to one in 2^32); 0 when `bound` is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// A gap with mean 1 of events that are independent of each other.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// A number with mean 0 and deviation 1, normally distributed.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_users_have_streams_of_their_own() {
        let first = |seed, of: &[u64]| Random::new(seed, of).next();
        assert_eq!(first(1, &[1, 2]), first(1, &[1, 2]));
        assert_ne!(first(1, &[1, 2]), first(2, &[1, 2]));
        assert_ne!(first(1, &[1, 2]), first(1, &[2, 1]));
        assert_ne!(first(1, &[0]), first(1, &[]));
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut random = Random::new(7, &[]);
        let count = 100_000;
        let (mut units, mut gaps, mut normals, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..count {
            let unit = random.unit();
            assert!(unit > 0.0 && unit <= 1.0);
            units += unit;
            gaps += random.exponential();
            let normal = random.normal();
            normals += normal;
            squares += normal * normal;
            assert!(random.below(10) < 10);
        }
        let mean = |sum: f64| sum / f64::from(count);
        assert!((mean(units) - 0.5).abs() < 0.01);
        assert!((mean(gaps) - 1.0).abs() < 0.02);
        assert!(mean(normals).abs() < 0.02);
        assert!((mean(squares) - 1.0).abs() < 0.03);
        assert_eq!(random.below(0), 0);
    }
}
