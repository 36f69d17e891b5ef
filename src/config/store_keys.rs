//! The master keys of the store, read from where the settings say that they are.

use ringmq_storage::Error;
use ringmq_storage::cipher::Keyring;

use super::{Encryption, KeySource};

impl Encryption {
    /// The keys: for reading in any case, for writing if encryption is on. Reads a file, and
    /// belongs before the start of the executors.
    ///
    /// # Errors
    /// [`Error`], which holds nothing of a key.
    pub fn keyring(&self) -> Result<Keyring, Error> {
        let keyring = match self.key_source() {
            None => return Ok(Keyring::default()),
            Some(KeySource::File(path)) => Keyring::read(&path)?,
            Some(KeySource::Text(text)) => {
                let keys = Keyring::parse(text.expose());
                keys.map_err(|bad| Error::Keys { path: None, bad })?
            }
        };
        Ok(if self.enable {
            keyring
        } else {
            keyring.reading_only()
        })
    }
}
