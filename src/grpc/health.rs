//! `grpc.health.v1` without its transport: what each question is answered with.
//!
//! The broker is one process with one state: while it serves, all services do; from the moment it
//! drains, none does, so that load balancers send their calls elsewhere.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use ringmq_proto::health::health_check_response::ServingStatus;
use ringmq_proto::health::{HealthCheckResponse, HealthListResponse};
use ringmq_proto::service;

use super::codec::DecodeError;
use super::codec::scan::Fields;
use crate::wire::status::{Code, Status};

/// The services that can be asked for; the empty name is the broker as a whole.
const SERVICES: [&str; 5] = [
    "",
    service::KUBEMQ,
    service::HEALTH,
    service::REFLECTION_V1,
    service::REFLECTION_V1ALPHA,
];

/// Answers `Check`.
///
/// # Errors
/// NOT_FOUND for a service that there is not; INTERNAL for a request that cannot be decoded.
pub fn check(request: &[u8], serving: bool) -> Result<Bytes, Status> {
    let service = service_of(request)?;
    if !SERVICES.contains(&service) {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    Ok(response(state(serving)))
}

/// The next message of a `Watch`: one at its start, one at each change. An unknown service is a
/// state like others, which the protocol wants to be told and not refused.
#[must_use]
pub fn watched(request: &[u8], serving: bool) -> Bytes {
    match service_of(request) {
        Ok(service) if SERVICES.contains(&service) => response(state(serving)),
        Ok(_) | Err(_) => response(ServingStatus::ServiceUnknown),
    }
}

/// Answers `List`.
#[must_use]
pub fn list(serving: bool) -> Bytes {
    let one = HealthCheckResponse {
        status: state(serving).into(),
    };
    let statuses: HashMap<_, _> = SERVICES
        .iter()
        .map(|service| ((*service).to_owned(), one))
        .collect();
    HealthListResponse { statuses }.encode_to_vec().into()
}

const fn state(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn response(status: ServingStatus) -> Bytes {
    HealthCheckResponse {
        status: status.into(),
    }
    .encode_to_vec()
    .into()
}

/// The service that a `HealthCheckRequest` names.
fn service_of(request: &[u8]) -> Result<&str, DecodeError> {
    let mut service = "";
    for field in Fields::of_message(request)? {
        let field = field?;
        if field.number == 1 {
            service = field.text()?;
        }
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use ringmq_proto::health::HealthCheckRequest;

    use super::*;

    fn asked(service: &str) -> Vec<u8> {
        HealthCheckRequest {
            service: service.to_owned(),
        }
        .encode_to_vec()
    }

    fn told(response: &Bytes) -> ServingStatus {
        HealthCheckResponse::decode(&response[..]).unwrap().status()
    }

    #[test]
    fn every_service_has_the_state_of_the_broker() {
        for service in SERVICES {
            for (serving, status) in [
                (true, ServingStatus::Serving),
                (false, ServingStatus::NotServing),
            ] {
                assert_eq!(told(&check(&asked(service), serving).unwrap()), status);
                assert_eq!(told(&watched(&asked(service), serving)), status);
                let list = HealthListResponse::decode(list(serving)).unwrap();
                assert_eq!(list.statuses[service].status(), status);
                assert_eq!(list.statuses.len(), SERVICES.len());
            }
        }
    }

    #[test]
    fn an_unknown_service_is_not_found_by_check_and_told_by_watch() {
        let status = check(&asked("nope"), true).unwrap_err();
        assert_eq!(status, Status::new(Code::NotFound, "unknown service"));
        assert_eq!(
            told(&watched(&asked("nope"), true)),
            ServingStatus::ServiceUnknown
        );
    }

    #[test]
    fn an_undecodable_question_is_refused() {
        assert_eq!(
            check(&[0x0a, 1, 0xff], true).unwrap_err().code(),
            Code::Internal
        );
        assert_eq!(told(&watched(&[0x0a], true)), ServingStatus::ServiceUnknown);
    }
}
