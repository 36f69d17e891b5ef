//! An authority of the tests, and the files that it issues.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: Files,
}

/// A certificate and its key, as files that live as long as this.
pub(super) struct Files {
    folder: TempDir,
}

impl Files {
    pub(super) fn write(certificate: &str, key: &KeyPair) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("certificate.pem"), certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The configuration of a server that is not ours.
    pub(super) fn bare_server_config(&self, protocols: &[&[u8]]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(self.certificate()).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.key()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(vec!["broker.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Authorities of the tests have names of their own, or a verifier would find one by the
        // name of another.
        let name = format!("test authority {:x?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let files = Files::write(&issuer.pem(), issuer.key());
        Self { issuer, files }
    }

    /// The file of its own certificate.
    pub(super) fn file(&self) -> PathBuf {
        self.files.certificate()
    }

    /// Its own certificate, as one would show it by mistake.
    pub(super) fn as_files(&self) -> Files {
        Files::write(&self.issuer.pem(), self.issuer.key())
    }

    /// A certificate for a name, valid for years around now.
    pub(super) fn issue(&self, name: &str) -> Files {
        self.issue_for_years(name, 2020, 2120)
    }

    pub(super) fn issue_for_years(&self, name: &str, from: i32, until: i32) -> Files {
        self.issue_as(name, |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        })
    }

    /// A certificate for a name, with whatever else is set.
    pub(super) fn issue_as(&self, name: &str, set: impl FnOnce(&mut CertificateParams)) -> Files {
        self.issue_with_key(name, &KeyPair::generate().unwrap(), set)
    }

    /// As [`issue_as`](Self::issue_as), of this key.
    pub(super) fn issue_with_key(
        &self,
        name: &str,
        key: &KeyPair,
        set: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        set(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Files::write(&certificate.pem(), key)
    }

    /// The list of the certificates with these numbers that are revoked, good until a year.
    pub(super) fn revokes(&self, numbers: &[u8], until: i32) -> Vec<u8> {
        let revoked = numbers.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*number]),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        list.pem().unwrap().into_bytes()
    }
}
