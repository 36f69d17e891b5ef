//! The ways in which a token can be signed.

/// A signature that a token may have, as RFC 7518 and RFC 8037 name them. There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    clippy::upper_case_acronyms,
    reason = "the names are those of the standard"
)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
    ];

    /// The name in the head of a token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of a name in the head of a token, where case counts.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The algorithm that an operator has named, where case does not count.
    #[must_use]
    pub fn configured(name: &str) -> Option<Self> {
        let mut known = Self::ALL.into_iter();
        known.find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// Whether the key of the one who verifies can sign as well.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_in_tokens_and_lenient_in_settings() {
        for algorithm in Algorithm::ALL {
            let name = algorithm.name();
            assert_eq!(Algorithm::named(name), Some(algorithm));
            assert_eq!(Algorithm::configured(&name.to_lowercase()), Some(algorithm));
        }
        for name in ["none", "None", "", "hs256", "HS256 ", "ES256K"] {
            assert_eq!(Algorithm::named(name), None, "{name}");
        }
        for name in ["none", "", "HS1", "RS256,HS256"] {
            assert_eq!(Algorithm::configured(name), None, "{name}");
        }
    }
}
