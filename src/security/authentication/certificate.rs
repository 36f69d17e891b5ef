//! Clients that a certificate names.

use super::claims::nanoseconds;
use super::recognised::Shown;
use super::token::Fault;
use crate::model::identity::{CertificateNames, Identity, Proof};

/// Which name in a certificate is that of its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateField {
    /// The last common name of the subject.
    #[default]
    CommonName,
    /// The first host name.
    Dns,
    /// The first identifier, as those of SPIFFE.
    Uri,
    /// The first mail address.
    Email,
    /// The whole subject.
    Subject,
}

impl CertificateField {
    const fn words(self) -> &'static str {
        match self {
            Self::CommonName => "common name",
            Self::Dns => "host name",
            Self::Uri => "URI",
            Self::Email => "mail address",
            Self::Subject => "subject",
        }
    }

    fn of(self, names: &CertificateNames) -> Option<&str> {
        let name = match self {
            Self::CommonName => Some(&names.common_name),
            Self::Dns => names.dns.first(),
            Self::Uri => names.uris.first(),
            Self::Email => names.emails.first(),
            Self::Subject => Some(&names.subject),
        };
        name.map(|name| &**name).filter(|name| !name.is_empty())
    }

    /// Whom a certificate names, which the handshake has verified.
    pub(super) fn recognise(
        self,
        names: &CertificateNames,
        now_ns: i64,
    ) -> Result<Identity, Fault> {
        if names.expires_at_ns <= now_ns {
            return Err(Fault::CertificateExpired);
        }
        let name = self.of(names);
        let name = name.ok_or(Fault::CertificateField(self.words()))?;
        Ok(Identity {
            proof: Proof::Certificate,
            name: name.into(),
            client_id: Some(name.into()),
            roles: Box::default(),
            expires_at_ns: Some(names.expires_at_ns),
        })
    }

    /// What tells the owner of a certificate from all others, tokens included.
    pub(super) fn shown(self, names: &CertificateNames) -> Option<Shown> {
        let name = self.of(names)?;
        let until = names.expires_at_ns;
        let shown = format!("certificate {until} {name}");
        Some(Shown::Certificate(super::api_keys::fingerprint(
            shown.as_bytes(),
        )))
    }
}

/// When a certificate ends, in whole seconds since 1970.
pub(super) const fn ends_at_s(names: &CertificateNames) -> i64 {
    names.expires_at_ns.div_euclid(nanoseconds(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_owner_by_the_field_that_was_chosen() {
        let names = CertificateNames {
            subject: "CN=ada,O=Acme".into(),
            common_name: "ada".into(),
            dns: vec!["a.example".into(), "b.example".into()],
            uris: vec!["spiffe://acme/ada".into()],
            emails: Vec::new(),
            expires_at_ns: 5_000_000_000,
        };
        let cases: &[(CertificateField, Result<&str, &str>)] = &[
            (CertificateField::CommonName, Ok("ada")),
            (CertificateField::Dns, Ok("a.example")),
            (CertificateField::Uri, Ok("spiffe://acme/ada")),
            (
                CertificateField::Email,
                Err("certificate has no mail address"),
            ),
            (CertificateField::Subject, Ok("CN=ada,O=Acme")),
        ];
        for (field, expected) in cases {
            let found = field.recognise(&names, 4_999_999_999);
            let found = found.map(|identity| {
                assert_eq!(identity.client_id.as_ref(), Some(&identity.name));
                assert_eq!(identity.expires_at_ns, Some(5_000_000_000));
                identity.name
            });
            let found = found.map_err(|fault| fault.to_string());
            assert_eq!(found.as_deref(), expected.map_err(str::to_owned).as_deref());
        }
        let late = CertificateField::CommonName.recognise(&names, 5_000_000_000);
        assert_eq!(late.unwrap_err().to_string(), "certificate is expired");
        let nameless = CertificateNames {
            common_name: "".into(),
            ..names
        };
        let found = CertificateField::CommonName.recognise(&nameless, 0);
        assert_eq!(
            found.unwrap_err().to_string(),
            "certificate has no common name"
        );
        assert_eq!(CertificateField::CommonName.shown(&nameless), None);
    }
}
