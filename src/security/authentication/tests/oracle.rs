//! Tokens that others have signed.

use std::process::{Command, Stdio};

use super::*;

/// The appendices of RFC 7515.
#[test]
fn the_examples_of_the_standard_are_taken() {
    const BODY: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                        cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let cases = [
        (
            json!({"kty": "oct", "alg": "HS256", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQL\
                r_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbj\
                i9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRP\
                EwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS\
                -UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWN\
                moudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}),
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YK\
             t_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBA\
             rLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI\
             7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypG\
             lUPQGe77Rw",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVE\
                U", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6N\
             U1Q",
        ),
    ];
    for (key, head, signature) in cases {
        let authenticator = with(vec![set(&json!({"keys": [key]})).unwrap()]);
        let token = format!("{head}.{BODY}.{signature}");
        let credentials = Credentials {
            token: Some(&token),
            certificate: None,
        };
        let mut recognised = Recognised::default();
        let mut at = |now_s: i64| {
            authenticator.authenticate(&credentials, now_s * 1_000_000_000, &mut recognised)
        };
        assert!(at(1_300_819_379).is_ok(), "{head}");
        // Remembered, and still not taken when it has ended.
        let late = at(1_300_819_483).unwrap_err().to_string();
        assert!(
            late.ends_with("failed, token is expired by 1m43s"),
            "{late}"
        );
    }
}

/// A program that knows nothing of ours has signed these.
#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one call of the other program for each algorithm"
)]
fn tokens_that_openssl_signs_are_taken() {
    let openssl = |arguments: &[&str], input: &[u8]| {
        use std::io::Write;
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.success().then_some(output.stdout)
    };
    if openssl(&["version"], b"").is_none() {
        eprintln!("skipped: there is no openssl");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for algorithm in Algorithm::ALL {
        let mut pair = pair(algorithm);
        if algorithm == Algorithm::EdDSA {
            // Of a form that it reads itself.
            pair.private = openssl(&["genpkey", "-algorithm", "ed25519"], b"").unwrap();
            pair.public = openssl(&["pkey", "-pubout"], &pair.private).unwrap();
        }
        let path = directory.path().join(algorithm.name());
        std::fs::write(&path, &pair.private).unwrap();
        let head = format!(r#"{{"alg":"{}"}}"#, algorithm.name());
        let unsigned = raw(&head, r#"{"sub":"ada"}"#, b"");
        let message = unsigned.trim_end_matches('.');
        let hash = format!("-sha{}", &algorithm.name()[2..]);
        let path = path.to_str().unwrap();
        let text = std::str::from_utf8(SECRET).unwrap();
        let salt = [
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            "rsa_pss_saltlen:digest",
        ];
        let whole = directory.path().join("message");
        std::fs::write(&whole, message).unwrap();
        let whole = whole.to_str().unwrap();
        let signature = match &algorithm.name()[..2] {
            "HS" => openssl(
                &["dgst", &hash, "-binary", "-hmac", text],
                message.as_bytes(),
            ),
            "RS" => openssl(&["dgst", &hash, "-sign", path], message.as_bytes()),
            "PS" => {
                let arguments = [&["dgst", &hash, "-sign", path], &salt[..]].concat();
                openssl(&arguments, message.as_bytes())
            }
            "ES" => openssl(&["dgst", &hash, "-sign", path], message.as_bytes())
                .map(|der| fixed(&der, algorithm)),
            _ => openssl(
                &["pkeyutl", "-sign", "-rawin", "-inkey", path, "-in", whole],
                b"",
            ),
        };
        let signature = signature.unwrap_or_else(|| panic!("openssl signs {algorithm:?}"));
        let encoded = URL_SAFE_NO_PAD.encode(&signature);
        let authenticator = one(algorithm, &pair.public);
        let found = ask(&authenticator, &format!("{message}.{encoded}"));
        assert_eq!(
            found.map(|identity| identity.name.clone()),
            Ok("ada".into()),
            "{algorithm:?}"
        );
        let mut wrong = signature.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let wrong = format!("{message}.{}", URL_SAFE_NO_PAD.encode(wrong));
        assert_eq!(refusal(&authenticator, &wrong), "signature is invalid");
    }
}

/// Two numbers side by side, of two numbers in DER.
fn fixed(der: &[u8], algorithm: Algorithm) -> Vec<u8> {
    let width = match algorithm {
        Algorithm::ES256 => 32,
        Algorithm::ES384 => 48,
        _ => 66,
    };
    let mut rest = if der[1] == 0x81 { &der[3..] } else { &der[2..] };
    let mut numbers = Vec::new();
    for _ in 0..2 {
        assert_eq!(rest[0], 2, "a number");
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(width)..];
        numbers.extend(vec![0; width - number.len()]);
        numbers.extend(number);
        rest = after;
    }
    numbers
}
