//! Who is it: tokens, keys and certificates become an [`Identity`].

use super::{Credentials, Unauthenticated};
use crate::model::identity::Identity;

/// What recognises somebody.
#[derive(Debug, Default)]
pub struct Authenticator {}

impl Authenticator {
    /// Finds out who shows these credentials.
    ///
    /// # Errors
    /// [`Unauthenticated`].
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        _now_ns: i64,
    ) -> Result<Identity, Unauthenticated> {
        match credentials.token {
            None => Err(Unauthenticated(
                "Authorization token is not supplied".into(),
            )),
            Some(_) => Ok(Identity::anonymous()),
        }
    }
}
