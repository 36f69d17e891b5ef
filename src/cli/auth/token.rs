//! `ringmq auth token`: tokens, looked into and made for trying things out.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::cli::failure::Failure;
use crate::cli::text::{harmless, time};
use crate::cli::{answer, examples, exit, parse};
use crate::config::Config;
use crate::rt;
use crate::security::authentication::{Algorithm, Inspected, SigningKey};
use crate::security::{Credentials, Security};
use crate::server;

/// The longest token that is read.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// What `ringmq auth token` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(in crate::cli) enum TokenTask {
    /// Look into a token or an API key, and say whether a broker with these settings takes it
    #[command(after_help = examples::AUTH_TOKEN_CHECK)]
    Check(CheckArgs),
    /// Make a token with a key of yours
    #[command(after_help = examples::AUTH_TOKEN_CREATE)]
    Create(CreateArgs),
}

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct CheckArgs {
    /// File with the token; `-` is the standard input, where no list of processes shows it
    #[arg(value_name = "PATH", default_value = "-")]
    token: PathBuf,
}

/// What is signed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct CreateArgs {
    /// How it is signed: HS256, RS256, PS256, ES256 (or 384, 512), EdDSA
    #[arg(long = "alg", value_name = "NAME", value_parser = algorithm)]
    algorithm: Algorithm,
    /// File with the key: the secret itself for HS256, HS384 and HS512, else a private key as PEM
    #[arg(long, value_name = "PATH")]
    key_file: PathBuf,
    /// The name of the key, for those who verify with a set of keys
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// A claim: JSON, or else text; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// How long it counts, as `1h`
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "1h")]
    expires_in: Duration,
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::configured(name)
        .ok_or_else(|| "none of HS, RS, PS, ES (256, 384, 512) and EdDSA".to_owned())
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("a claim is NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// Makes a token.
pub(super) fn create(args: &CreateArgs) -> Result<ExitCode, Failure> {
    let key = read(&args.key_file)?;
    let key = SigningKey::new(args.algorithm, &key);
    let key = key.map_err(|error| Failure::Usage(error.to_string()))?;
    let now_s = rt::unix_ns() / 1_000_000_000;
    let lasts_s = i64::try_from(args.expires_in.as_secs()).unwrap_or(i64::MAX);
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), now_s.into());
    claims.insert("exp".to_owned(), now_s.saturating_add(lasts_s).into());
    claims.extend(args.claims.iter().cloned());
    let token = key.token(args.key_id.as_deref(), &claims);
    let token = token.map_err(|error| Failure::Usage(error.to_string()))?;
    answer(&format!("{token}\n"));
    Ok(ExitCode::SUCCESS)
}

/// Tells what is in a token, and what a broker of these settings makes of it.
pub(super) fn check(args: &CheckArgs, config: &Config) -> Result<ExitCode, Failure> {
    let text = read(&args.token)?;
    let text = String::from_utf8_lossy(&text);
    let token = text.trim();
    let mut told = match Inspected::of(token) {
        Some(found) => format!("header  {}\nclaims  {}\n", found.header, found.claims),
        None => String::new(),
    };
    let rules = match server::rules(config) {
        Ok(rules) => rules,
        Err(text) => {
            eprintln!("ringmq: {text}");
            return Ok(ExitCode::from(exit::CONFIG));
        }
    };
    if rules.authentication.is_none() {
        told += "not checked: authentication.enable is false, nobody is asked\n";
        answer(&harmless(&told));
        return Ok(ExitCode::SUCCESS);
    }
    let credentials = Credentials {
        token: Some(token),
        certificate: None,
    };
    let security = Security::new(rules);
    let code = match security.authenticate(&credentials, rt::unix_ns()) {
        Ok(identity) => {
            let ends = match identity.expires_at_ns {
                None => "never".to_owned(),
                Some(at) => time(u64::try_from(at).unwrap_or(0)),
            };
            told += &format!(
                "taken: {} (by {}), client id {}, roles {}, ends {ends}\n",
                quoted(&identity.name),
                identity.proof.word(),
                identity.client_id.as_deref().map_or("-".to_owned(), quoted),
                roles(&identity.roles),
            );
            ExitCode::SUCCESS
        }
        Err(refused) => {
            told += &format!("refused: {refused}\n");
            ExitCode::from(exit::REFUSED)
        }
    };
    answer(&harmless(&told));
    Ok(code)
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn roles(roles: &[Box<str>]) -> String {
    if roles.is_empty() {
        return "none".to_owned();
    }
    roles.join(", ")
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        let input = std::io::stdin().lock();
        input.take(TOKEN_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path);
        file.and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(Failure::Input {
            what: path.display().to_string(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_json_or_text() {
        assert_eq!(claim("a=1"), Ok(("a".to_owned(), 1.into())));
        assert_eq!(claim("a=ada"), Ok(("a".to_owned(), "ada".into())));
        assert_eq!(claim("a=\"1\""), Ok(("a".to_owned(), "1".into())));
        assert_eq!(
            claim("roles=[\"r\"]"),
            Ok(("roles".to_owned(), vec!["r"].into()))
        );
        assert_eq!(claim("a=b=c"), Ok(("a".to_owned(), "b=c".into())));
        assert!(claim("a").is_err() && claim("=1").is_err());
    }
}
