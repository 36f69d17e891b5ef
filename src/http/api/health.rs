//! Liveness and readiness.
//!
//! Healthy is a broker that no restart would mend: none of its logs has failed. Ready is one that
//! takes new messages: it is healthy, does not end, and has room for what it stores. It answers at
//! all only when its logs are recovered.
//!
//! Overloaded is one that has more to do than it can. It says so and stays ready: nobody else has
//! its channels, and out of the balancer it could not even be emptied.

use http::StatusCode;
use serde::Serialize;

use super::super::body::Body;
use super::super::exchange::{Exchange, Response, text};
use super::{access, json};
use crate::shard::{Overload, Readiness};

#[derive(Serialize)]
struct Answer {
    is_healthy: bool,
    is_ready: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_overloaded: bool,
    /// For people; not there when all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

pub(super) async fn health(exchange: &Exchange) -> Response {
    let readiness = readiness(exchange).await;
    if readiness.is_healthy() {
        match overload(&readiness).as_slice() {
            [] => text(StatusCode::OK, "healthy"),
            reasons => text(StatusCode::OK, format!("healthy; {}", reasons.join("; "))),
        }
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, "not healthy")
    }
}

pub(super) async fn ready(exchange: &Exchange) -> Response {
    let readiness = readiness(exchange).await;
    let answer = Answer {
        is_healthy: readiness.is_healthy(),
        is_ready: readiness.is_ready(),
        is_overloaded: !readiness.overloaded.is_empty(),
        reasons: reasons(&readiness, access::is_local(exchange.peer)),
    };
    let status = if answer.is_ready {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut body = serde_json::to_vec(&answer).unwrap_or_default();
    body.push(b'\n');
    json(status, Body::full(body))
}

async fn readiness(exchange: &Exchange) -> Readiness {
    let shard = &exchange.context.shard;
    let answers = shard
        .ask_all(|shard| Box::pin(async move { shard.readiness() }))
        .await;
    let mut all = Readiness::default();
    answers.into_iter().for_each(|one| all.add(one));
    all
}

/// Why the broker is not ready. The whole of it, with paths, is for those who are on the machine.
fn reasons(readiness: &Readiness, whole: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    for (log, reason) in &readiness.failed {
        let reason = if whole {
            reason
        } else {
            "the broker's log says why"
        };
        reasons.push(format!(
            "log {log} has failed and takes no more writes: {reason}; check the disk, then restart"
        ));
    }
    if !readiness.full.is_empty() {
        let logs: Vec<String> = readiness.full.iter().map(u16::to_string).collect();
        reasons.push(format!(
            "no space for the next segment of log {}: free space on the disk of store.store_path",
            logs.join(", ")
        ));
    }
    if readiness.draining {
        reasons.push("the broker is shutting down".to_owned());
    }
    reasons.extend(overload(readiness));
    reasons
}

/// What there is too much of, and where.
fn overload(readiness: &Readiness) -> Vec<String> {
    let cores = |of: fn(&Overload) -> bool| {
        let overloaded = readiness.overloaded.iter();
        let cores = overloaded.filter(|(_, overload)| of(overload));
        cores.map(|(core, _)| core.to_string()).collect::<Vec<_>>()
    };
    let (processor, store) = (cores(|of| of.processor), cores(|of| of.store));
    let mut reasons = Vec::new();
    if !processor.is_empty() {
        reasons.push(format!(
            "overloaded: the processor of core {} has had no pause for a second; clients wait \
             until they are read",
            processor.join(", ")
        ));
    }
    if !store.is_empty() {
        reasons.push(format!(
            "overloaded: messages on core {} wait too long for their commit \
             (limits.overload_target_ms); further unary calls with messages are refused",
            store.join(", ")
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_its_reason() {
        assert!(reasons(&Readiness::default(), true).is_empty());
        let all = Readiness {
            draining: true,
            failed: vec![(2, "sync of segment 4: I/O error".to_owned())],
            full: vec![0, 1],
            overloaded: vec![
                (
                    3,
                    Overload {
                        processor: true,
                        store: true,
                    },
                ),
                (
                    5,
                    Overload {
                        processor: true,
                        store: false,
                    },
                ),
            ],
        };
        let reasons = reasons(&all, true);
        assert_eq!(reasons.len(), 5);
        assert!(reasons[3].contains("core 3, 5") && reasons[4].contains("core 3 wait"));
        assert!(reasons[0].contains("log 2") && reasons[0].contains("I/O error"));
        assert!(reasons[1].contains("0, 1"));
    }
}
