//! Whom a certificate names.
//!
//! Read after the certificate was verified, and never to decide whether it is: an authority that
//! is believed has signed these bytes. What is not understood in them is left out, or ends the
//! connection; it never becomes somebody else's name.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::model::identity::CertificateNames;

/// Reads the names of a certificate in DER. `None`: it is malformed, or has one name in two ways.
pub(super) fn read(certificate: &[u8]) -> Option<CertificateNames> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let common_name = subject.iter_common_name().last();
    let common_name = common_name.and_then(|name| name.as_str().ok());
    let mut names = CertificateNames {
        subject: distinguished(subject).into(),
        common_name: common_name.unwrap_or_default().into(),
        expires_at_ns: ends_at_ns(&certificate),
        ..CertificateNames::default()
    };
    if let Some(alternative) = certificate.subject_alternative_name().ok()? {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).into()),
                GeneralName::URI(name) => names.uris.push((*name).into()),
                GeneralName::RFC822Name(name) => names.emails.push((*name).into()),
                GeneralName::Invalid(..) => return None,
                _ => {}
            }
        }
    }
    Some(names)
}

/// When a certificate in DER ends: nanoseconds since 1970. `None`: it is malformed.
pub(super) fn ends_at(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(ends_at_ns(&certificate))
}

/// Certificates are valid up to and including the second that they name.
fn ends_at_ns(certificate: &X509Certificate<'_>) -> i64 {
    let last = certificate.validity().not_after.timestamp();
    last.saturating_add(1).saturating_mul(1_000_000_000)
}

/// A name as RFC 4514 writes it: the most particular part first.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type().to_id_string();
    let known = KINDS.iter().find(|(id, _)| *id == kind);
    match (known, attribute.as_str()) {
        (Some((_, word)), Ok(value)) => format!("{word}={}", escaped(value)),
        (Some((_, word)), Err(_)) => format!("{word}=#{}", hex(attribute)),
        (None, _) => format!("{kind}=#{}", hex(attribute)),
    }
}

/// The words of RFC 4514, and those that OpenSSL has besides.
const KINDS: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "street"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.42", "GN"),
    ("2.5.4.46", "dnQualifier"),
];

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            // Whoever writes a log line of it must not be led astray.
            character if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    text.push_str(&format!("\\{byte:02X}"));
                }
            }
            character => text.push(character),
        }
    }
    text
}

/// The value as it stands in the certificate: kind, length, bytes.
fn hex(attribute: &AttributeTypeAndValue<'_>) -> String {
    use x509_parser::asn1_rs::ToDer as _;
    let encoded = attribute.attr_value().to_der_vec().unwrap_or_default();
    encoded.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType, date_time_ymd,
    };

    use super::*;

    fn certificate(set: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        set(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_read_from_subject_and_alternatives() {
        let names = read(&certificate(|params| {
            let subject = &mut params.distinguished_name;
            subject.push(DnType::CountryName, "DE");
            subject.push(DnType::OrganizationName, "Rings, Inc.");
            subject.push(DnType::CommonName, "#alice ");
            params.subject_alt_names = vec![
                SanType::DnsName("alice.example".try_into().unwrap()),
                SanType::URI("spiffe://example/alice".try_into().unwrap()),
                SanType::Rfc822Name("alice@example.org".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
            params.not_after = date_time_ymd(2100, 1, 1);
        }))
        .unwrap();
        assert_eq!(&*names.subject, "CN=\\#alice\\ ,O=Rings\\, Inc.,C=DE");
        assert_eq!(&*names.common_name, "#alice ");
        assert_eq!(names.dns, ["alice.example".into()]);
        assert_eq!(names.uris, ["spiffe://example/alice".into()]);
        assert_eq!(names.emails, ["alice@example.org".into()]);
        assert_eq!(names.expires_at_ns, 4_102_444_801 * 1_000_000_000);
    }

    #[test]
    fn what_could_end_a_line_or_a_string_is_escaped() {
        let names = read(&certificate(|params| {
            let name = DnValue::Utf8String("a\0b\nc".to_owned());
            params.distinguished_name.push(DnType::CommonName, name);
        }))
        .unwrap();
        assert_eq!(&*names.subject, "CN=a\\00b\\0Ac");
        assert_eq!(&*names.common_name, "a\0b\nc", "compared as it is");
    }

    #[test]
    fn kinds_without_a_word_are_numbers() {
        let names = read(&certificate(|params| {
            let kind = DnType::CustomDnType(vec![1, 2, 3, 4]);
            let value = DnValue::Utf8String("hi".to_owned());
            params.distinguished_name.push(kind, value);
        }))
        .unwrap();
        assert_eq!(&*names.subject, "1.2.3.4=#0c026869");
        assert_eq!(&*names.common_name, "");
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let whole = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "alice");
            params.subject_alt_names = vec![SanType::DnsName("alice.test".try_into().unwrap())];
        });
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "cut at {cut}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0x55;
            let _read_or_refused = read(&changed);
        }
    }
}
