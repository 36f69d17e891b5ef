//! The flags that say which server, and with what it is talked to.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use crate::target::{Target, Tls};

/// Bytes of a token, which travels as a header.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Where the server is.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// The server's gRPC address, host:port; again for each further server of a cluster
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50000",
        value_delimiter = ','
    )]
    address: Vec<String>,
    /// Process of the server, when it runs here: its CPU time and memory are reported
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    security: SecurityArgs,
}

/// How the server is talked to.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityArgs {
    /// Encrypts connections; the other flags of encryption include it
    #[arg(long)]
    tls: bool,
    /// Trusts these certificates (PEM) and not those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Shows this certificate (PEM)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of the certificate (PEM), unless it is in the same file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name that the server's certificate must have [default: the host of the address]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Takes any certificate. The connection is then safe from nobody
    #[arg(long)]
    insecure: bool,
    /// A token that goes with each call; other users of this machine can see it here
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// The token in a file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServerArgs {
    /// The server, with its name resolved and its certificates read.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        self.security.target(&self.address, self.pid)
    }
}

impl SecurityArgs {
    /// A server at these addresses, talked to in this way.
    pub(crate) fn target(&self, addresses: &[String], pid: Option<u32>) -> anyhow::Result<Target> {
        let mut target = Target::resolve(addresses)?;
        if let Some(pid) = pid {
            let process = Path::new("/proc").join(pid.to_string());
            ensure!(
                process.exists(),
                "pid: there is no process {pid} on this machine"
            );
        }
        target.pid = pid;
        target.token = self.token()?;
        let Some(tls) = self.tls() else {
            return Ok(target);
        };
        if tls.insecure {
            let text = "warning: --insecure: no certificate is verified, anybody may listen";
            let _nobody_reads_it = writeln!(std::io::stderr(), "{text}");
        }
        target.encrypted(tls)
    }

    fn tls(&self) -> Option<Tls> {
        let tls = Tls {
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
            server_name: self.server_name.clone(),
            insecure: self.insecure,
        };
        (self.tls || tls != Tls::default()).then_some(tls)
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .with_context(|| format!("token_file: cannot read {}", path.display()))?,
            (None, None) => return Ok(None),
        };
        let token = token.trim().to_owned();
        let len = token.len();
        ensure!(
            (1..=TOKEN_BYTES_MAX).contains(&len),
            "token: {len} bytes are not between 1 and {TOKEN_BYTES_MAX}"
        );
        ensure!(
            token.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "token: it has characters that no header can carry"
        );
        Ok(Some(token))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArgs,
    }

    fn target(flags: &[&str]) -> anyhow::Result<Target> {
        let line = Line::try_parse_from([&["x"], flags].concat())?;
        line.server.target()
    }

    fn error(flags: &[&str]) -> String {
        format!("{:#}", target(flags).unwrap_err())
    }

    #[test]
    fn the_default_is_a_server_on_this_machine() {
        let target = target(&[]).unwrap();
        assert_eq!(target.name, "127.0.0.1:50000");
        assert!(target.tls.is_none() && target.token.is_none() && target.pid.is_none());
    }

    #[test]
    fn addresses_are_repeated_or_listed() {
        let flags = [
            "--address",
            "127.0.0.1:1,127.0.0.1:2",
            "--address",
            "127.0.0.1:3",
        ];
        let target = target(&flags).unwrap();
        assert_eq!(target.addresses.len(), 3);
        assert_eq!(target.name, "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3");
    }

    #[test]
    fn tokens_come_from_files_without_their_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "a-token\n").unwrap();
        let file = path.to_str().unwrap();
        let token = target(&["--token-file", file]).unwrap().token;
        assert_eq!(token.as_deref(), Some("a-token"));
        assert!(error(&["--token-file", file, "--token", "b"]).contains("cannot be used with"));
        std::fs::write(&path, "two\nlines").unwrap();
        assert!(error(&["--token-file", file]).contains("no header can carry"));
        assert!(error(&["--token", " "]).starts_with("token: 0 bytes"));
        assert!(error(&["--token-file", "/nowhere"]).contains("cannot read /nowhere"));
    }

    #[test]
    fn what_encryption_needs_is_read_at_once() {
        assert!(error(&["--ca", "/nowhere.pem"]).contains("/nowhere.pem"));
        assert!(error(&["--tls", "--cert", "/no/cert.pem"]).contains("/no/cert.pem"));
        assert!(error(&["--key", "/no/key.pem"]).contains("--cert"));
        let target = target(&["--insecure", "--server-name", "broker.example"]).unwrap();
        assert_eq!(target.tls.unwrap().server_name(), "broker.example");
        assert_eq!(target.name, "127.0.0.1:50000 (certificate not verified)");
    }

    #[test]
    fn the_name_in_the_certificate_is_the_host_as_given() {
        let name = |flags: &[&str]| {
            let target = target(&[flags, &["--insecure"]].concat()).unwrap();
            target.tls.unwrap().server_name()
        };
        assert_eq!(name(&[]), "127.0.0.1");
        assert_eq!(name(&["--address", "localhost:1,127.0.0.1:2"]), "localhost");
        assert_eq!(name(&["--address", "[::1]:1"]), "::1");
    }

    #[test]
    fn a_process_that_is_not_there_is_refused() {
        assert!(error(&["--pid", "4294967295"]).contains("no process 4294967295"));
        let own = std::process::id();
        assert_eq!(target(&["--pid", &own.to_string()]).unwrap().pid, Some(own));
    }
}
