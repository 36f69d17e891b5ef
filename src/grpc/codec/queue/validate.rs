//! What the calls of queues must hold, in the order in which clients have always seen it refused:
//! client id, queue, emptiness, then policy or bounds.

use std::time::Duration;

use super::{AckAllView, PolicyView, QueueLimits, QueueMessageView, ReceiveView};
use crate::grpc::codec::validate::check_client_id;
use crate::model::name::{self, Target};
use crate::wire_error::Refusal;

/// Checks a message that is sent; says whether its channel is a queue or a route.
///
/// # Errors
/// The first refusal of: client id, queue, emptiness, policy.
pub fn validate_message(
    message: &QueueMessageView<'_>,
    limits: &QueueLimits,
) -> Result<Target, Refusal> {
    check_client_id(message.client_id)?;
    let target = name::check_target(message.channel).map_err(|_| Refusal::QueueName)?;
    if message.is_empty() {
        return Err(Refusal::EventEmpty);
    }
    check_policy(&message.policy, limits)?;
    Ok(target)
}

/// Checks a `ReceiveQueueMessages` call; gives how many messages it asks for at most, and how long
/// it waits.
///
/// # Errors
/// The first refusal of: client id, queue, maximum, wait.
pub fn validate_receive(
    request: &ReceiveView<'_>,
    limits: &QueueLimits,
) -> Result<(u32, Duration), Refusal> {
    check_client_id(request.client_id)?;
    check_queue(request.channel)?;
    let items_max = u32::try_from(request.messages_max)
        .ok()
        .filter(|max| (1..=limits.messages_max).contains(max))
        .ok_or(Refusal::QueueMessagesMax)?;
    Ok((items_max, check_wait(request.wait_seconds, limits)?))
}

/// Checks an `AckAllQueueMessages` call. How long it may take is of no use any more, and checked as
/// ever.
///
/// # Errors
/// The first refusal of: client id, queue, wait.
pub fn validate_ack_all(request: &AckAllView<'_>, limits: &QueueLimits) -> Result<(), Refusal> {
    check_client_id(request.client_id)?;
    check_queue(request.channel)?;
    check_wait(request.wait_seconds, limits).map(|_| ())
}

/// Checks the name of one queue.
///
/// # Errors
/// [`Refusal::QueueName`], whatever is wrong with it.
pub fn check_queue(channel: &str) -> Result<(), Refusal> {
    name::check_channel(channel).map_err(|_| Refusal::QueueName)
}

/// Checks for how many seconds a call may wait; 0 is the operator's choice.
///
/// # Errors
/// [`Refusal::QueueWait`].
pub fn check_wait(seconds: i32, limits: &QueueLimits) -> Result<Duration, Refusal> {
    let wait = within(seconds, limits.wait_max).ok_or(Refusal::QueueWait)?;
    Ok(if wait.is_zero() {
        limits.wait_default
    } else {
        wait
    })
}

fn check_policy(policy: &PolicyView<'_>, limits: &QueueLimits) -> Result<(), Refusal> {
    within(policy.expiration_seconds, limits.expiration_max).ok_or(Refusal::QueueExpiration)?;
    let receives = u32::try_from(policy.max_receive_count);
    if receives.map_or(true, |receives| receives > limits.receives_max) {
        return Err(Refusal::QueueReceiveCount);
    }
    within(policy.delay_seconds, limits.delay_max).ok_or(Refusal::QueueDelay)?;
    match policy.max_receive_queue {
        "" => Ok(()),
        queue => check_queue(queue),
    }
}

/// A number of seconds that is not negative and not above a bound.
fn within(seconds: i32, max: Duration) -> Option<Duration> {
    let duration = Duration::from_secs(u64::try_from(seconds).ok()?);
    (duration <= max).then_some(duration)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use ringmq_proto::kubemq::{QueueMessage, QueueMessagePolicy};

    use super::*;

    fn message() -> QueueMessage {
        QueueMessage {
            client_id: "c".into(),
            channel: "q".into(),
            body: Bytes::from_static(b"b"),
            ..QueueMessage::default()
        }
    }

    fn check(message: &QueueMessage) -> Result<Target, Refusal> {
        let encoded = message.encode_to_vec();
        let view = QueueMessageView::parse(&encoded).unwrap();
        validate_message(&view, &QueueLimits::default())
    }

    fn check_policy(change: impl FnOnce(&mut QueueMessagePolicy)) -> Result<Target, Refusal> {
        let mut policy = QueueMessagePolicy::default();
        change(&mut policy);
        check(&QueueMessage {
            policy: Some(policy),
            ..message()
        })
    }

    #[test]
    fn every_fault_of_a_queues_name_is_one_refusal() {
        let long = "q".repeat(257);
        let bad = [
            "", "q.", "q x", "q\tx", "q\r\n", "q.*", "q.>", ".q", "q..x", &long,
        ];
        for channel in bad {
            let bad = QueueMessage {
                channel: channel.into(),
                body: Bytes::new(),
                ..message()
            };
            assert_eq!(check(&bad), Err(Refusal::QueueName), "{channel:?}");
            assert_eq!(check_queue(channel), Err(Refusal::QueueName), "{channel:?}");
            let worse = QueueMessage {
                client_id: String::new(),
                ..bad
            };
            assert_eq!(check(&worse), Err(Refusal::ClientIdEmpty));
        }
        for channel in ["q", "q:x", "q/x", "a.b,c", "é"] {
            assert_eq!(check_queue(channel), Ok(()), "{channel:?}");
        }
    }

    #[test]
    fn emptiness_comes_before_the_policy_and_routes_are_told() {
        let empty = QueueMessage {
            body: Bytes::new(),
            tags: [("a".to_owned(), "b".to_owned())].into(),
            policy: Some(QueueMessagePolicy {
                delay_seconds: -1,
                ..QueueMessagePolicy::default()
            }),
            ..message()
        };
        assert_eq!(check(&empty), Err(Refusal::EventEmpty));
        let metadata = QueueMessage {
            metadata: "m".into(),
            body: Bytes::new(),
            ..message()
        };
        assert_eq!(check(&metadata), Ok(Target::Channel));
        let routed = QueueMessage {
            channel: "a;events:b".into(),
            ..message()
        };
        assert_eq!(check(&routed), Ok(Target::Route));
        assert_eq!(
            check_queue("a;b"),
            Err(Refusal::QueueName),
            "to receive from"
        );
    }

    #[test]
    fn each_number_of_a_policy_has_its_bounds_and_its_refusal() {
        for seconds in [-1, 43_201, i32::MIN, i32::MAX] {
            let expiration = check_policy(|policy| policy.expiration_seconds = seconds);
            assert_eq!(expiration, Err(Refusal::QueueExpiration), "{seconds}");
            let delay = check_policy(|policy| policy.delay_seconds = seconds);
            assert_eq!(delay, Err(Refusal::QueueDelay), "{seconds}");
        }
        for count in [-1, 1025, i32::MIN] {
            let receives = check_policy(|policy| policy.max_receive_count = count);
            assert_eq!(receives, Err(Refusal::QueueReceiveCount), "{count}");
        }
        for queue in ["a b", "a.*", "a;b", "a."] {
            let dead_letter = check_policy(|policy| policy.max_receive_queue = queue.into());
            assert_eq!(dead_letter, Err(Refusal::QueueName), "{queue}");
        }
        let most = check_policy(|policy| {
            policy.expiration_seconds = 43_200;
            policy.delay_seconds = 43_200;
            policy.max_receive_count = 1024;
            policy.max_receive_queue = "dead".into();
        });
        assert_eq!(most, Ok(Target::Channel));
        let worst = check_policy(|policy| {
            policy.expiration_seconds = -1;
            policy.max_receive_count = -1;
            policy.delay_seconds = -1;
            policy.max_receive_queue = "*".into();
        });
        assert_eq!(worst, Err(Refusal::QueueExpiration), "the first of them");
    }

    #[test]
    fn receives_are_refused_for_the_first_fault() {
        let limits = QueueLimits::default();
        let request = ReceiveView {
            client_id: "c",
            channel: "q",
            messages_max: 1,
            ..ReceiveView::default()
        };
        let asked = (1, Duration::from_secs(1));
        assert_eq!(validate_receive(&request, &limits), Ok(asked), "0 s is 1 s");
        let most = ReceiveView {
            messages_max: 1024,
            wait_seconds: 3600,
            ..request
        };
        let asked = (1024, Duration::from_secs(3600));
        assert_eq!(validate_receive(&most, &limits), Ok(asked));
        for messages_max in [0, -1, 1025] {
            let bad = ReceiveView {
                messages_max,
                wait_seconds: -1,
                ..request
            };
            let refused = validate_receive(&bad, &limits);
            assert_eq!(refused, Err(Refusal::QueueMessagesMax), "{messages_max}");
        }
        for wait_seconds in [-1, 3601] {
            let bad = ReceiveView {
                wait_seconds,
                ..request
            };
            assert_eq!(validate_receive(&bad, &limits), Err(Refusal::QueueWait));
            let bad = AckAllView {
                client_id: "c",
                channel: "q",
                wait_seconds,
                ..AckAllView::default()
            };
            assert_eq!(validate_ack_all(&bad, &limits), Err(Refusal::QueueWait));
        }
        let unnamed = ReceiveView {
            channel: "q.*",
            messages_max: 0,
            ..request
        };
        assert_eq!(validate_receive(&unnamed, &limits), Err(Refusal::QueueName));
        let nobody = ReceiveView {
            client_id: "",
            ..unnamed
        };
        assert_eq!(
            validate_receive(&nobody, &limits),
            Err(Refusal::ClientIdEmpty)
        );
        let nobody = AckAllView::default();
        assert_eq!(
            validate_ack_all(&nobody, &limits),
            Err(Refusal::ClientIdEmpty)
        );
    }
}
