//! The identity of the broker, read once at the start.

use std::sync::Arc;

use super::executor::Tls;
use super::{Failed, exit};
use crate::config::{PemSource, Security};
use crate::wire::tls::{Pem, ServerTls, ServerTlsSettings};

/// Reads what `security` names; none when nothing is named.
pub(super) fn load(security: &Security) -> Result<Option<Tls>, Failed> {
    let certificate = pem(&security.certificate(), "security.cert.data");
    let key = pem(&security.key(), "security.key.data");
    // The configuration has seen to it that they come together.
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Ok(None);
    };
    let settings = ServerTlsSettings {
        certificate,
        key,
        client_ca: pem(&security.authorities(), "security.ca.data"),
    };
    let grpc = ServerTls::load(&settings).map_err(|error| Failed::new(exit::CONFIG, &error))?;
    Ok(Some(Tls {
        rest: Arc::new(grpc.with_http1()),
        grpc: Arc::new(grpc),
    }))
}

fn pem(source: &PemSource, name: &'static str) -> Option<Pem> {
    match source {
        PemSource::None => None,
        PemSource::File(path) => Some(Pem::File(path.clone())),
        PemSource::Text(text) => Some(Pem::Text {
            name,
            text: text.expose().as_bytes().to_vec(),
        }),
    }
}
