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
