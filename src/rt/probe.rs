//! The start-up probe: is io_uring there, and may this process use it?

use std::io;

/// Why no executor can be started.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The kernel has no io_uring.
    #[error("this kernel has no io_uring (io_uring_setup: ENOSYS)")]
    Missing,
    /// Forbidden by the sysctl or by a seccomp filter.
    #[error("io_uring is forbidden here (io_uring_setup: EPERM)")]
    Forbidden,
    /// The memory that may be locked is below what a ring needs.
    #[error("too little lockable memory for io_uring (io_uring_setup: ENOMEM)")]
    Memlock,
    /// An operation that the broker needs is missing: the kernel is too old.
    #[error("this kernel's io_uring lacks {0}")]
    Operation(&'static str),
    /// Something else.
    #[error("io_uring_setup failed")]
    Other(#[source] io::Error),
}

impl Refused {
    /// What the operator can do about it, in whole lines.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Missing | Self::Operation(_) => {
                "RingMQ needs Linux 5.11 or newer; 6.1 or newer is recommended (uname -r)."
            }
            Self::Forbidden => FORBIDDEN,
            Self::Memlock => {
                "Raise the limit to 8 MiB or more: `ulimit -l 8192`, LimitMEMLOCK=8M in a systemd \
                 unit,\n`--ulimit memlock=8388608` for a container."
            }
            Self::Other(_) => "See the system call's error above.",
        }
    }
}

const FORBIDDEN: &str = "\
On a host: `sysctl kernel.io_uring_disabled` must be 0 (or 1 with the process in \
kernel.io_uring_group).
In a container the default seccomp profile denies io_uring_setup, io_uring_enter and
io_uring_register. Allow them:
  docker run --security-opt seccomp=docs/deploy/ringmq-seccomp.json ...
  docker run --security-opt seccomp=unconfined ...                        (to try it out)
  Kubernetes: securityContext.seccompProfile {type: Localhost, localhostProfile: ringmq.json},
              or {type: Unconfined} to try it out";

/// Sets up a small ring and throws it away.
///
/// # Errors
/// Why executors could not start here.
pub fn probe() -> Result<(), Refused> {
    use io_uring::{IoUring, Probe, opcode};
    let ring = IoUring::new(2).map_err(classify)?;
    let mut operations = Probe::new();
    // The probe itself came with Linux 5.6; without it, none of what we need is there.
    ring.submitter()
        .register_probe(&mut operations)
        .map_err(|_| Refused::Operation("IORING_REGISTER_PROBE"))?;
    let needed = [
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::Timeout::CODE, "IORING_OP_TIMEOUT"),
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::Write::CODE, "IORING_OP_WRITE"),
        (opcode::Fsync::CODE, "IORING_OP_FSYNC"),
        (opcode::OpenAt::CODE, "IORING_OP_OPENAT"),
        (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE"),
    ];
    match needed
        .iter()
        .find(|(code, _)| !operations.is_supported(*code))
    {
        Some((_, name)) => Err(Refused::Operation(name)),
        None => Ok(()),
    }
}

fn classify(error: io::Error) -> Refused {
    use rustix::io::Errno;
    match error.raw_os_error() {
        Some(code) if code == Errno::NOSYS.raw_os_error() => Refused::Missing,
        Some(code) if code == Errno::PERM.raw_os_error() => Refused::Forbidden,
        Some(code) if code == Errno::ACCESS.raw_os_error() => Refused::Forbidden,
        Some(code) if code == Errno::NOMEM.raw_os_error() => Refused::Memlock,
        _ => Refused::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_is_named_with_its_remedy() {
        let refusal = |code: i32| classify(io::Error::from_raw_os_error(code));
        assert!(matches!(refusal(1), Refused::Forbidden));
        assert!(matches!(refusal(13), Refused::Forbidden));
        assert!(matches!(refusal(38), Refused::Missing));
        assert!(matches!(refusal(12), Refused::Memlock));
        assert!(matches!(refusal(22), Refused::Other(_)));
        let remedy = refusal(1).remedy();
        assert!(
            remedy.contains("seccomp=") && remedy.contains("seccompProfile"),
            "{remedy}"
        );
    }
}
