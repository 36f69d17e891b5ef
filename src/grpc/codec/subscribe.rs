//! Subscriptions: rare, so they are decoded into the generated type.

use ringmq_proto::kubemq::Subscribe;

use super::DecodeError;
use super::scan::Fields;

/// Decodes a `Subscribe` by the rules of [`super`]: with the errors, and their texts, that the
/// other messages have.
///
/// # Errors
/// When the message cannot be decoded.
pub fn decode(message: &[u8]) -> Result<Subscribe, DecodeError> {
    let mut subscribe = Subscribe::default();
    for field in Fields::of_message(message)? {
        let field = field?;
        match field.number {
            1 => subscribe.subscribe_type_data = field.int32()?,
            2 => subscribe.client_id = field.text()?.to_owned(),
            3 => subscribe.channel = field.text()?.to_owned(),
            4 => subscribe.group = field.text()?.to_owned(),
            5 => subscribe.events_store_type_data = field.int32()?,
            6 => subscribe.events_store_type_value = field.int64()?,
            _ => {}
        }
    }
    Ok(subscribe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::tests::noise;
    use super::*;

    prop_compose! {
        fn any_subscribe()(
            (subscribe_type_data, events_store_type_data) in any::<(i32, i32)>(),
            (client_id, channel, group) in (".{0,9}", ".{0,9}", ".{0,9}"),
            events_store_type_value: i64,
        ) -> Subscribe {
            Subscribe {
                subscribe_type_data, client_id, channel, group, events_store_type_data,
                events_store_type_value,
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_decoded_as_the_generated_type_does(message in noise(any_subscribe())) {
            if let Ok(subscribe) = decode(&message) {
                prop_assert_eq!(Subscribe::decode(&message[..]), Ok(subscribe));
            }
        }
    }

    #[test]
    fn the_error_is_the_one_of_the_other_messages() {
        assert_eq!(decode(&[0x1a, 1, 0xff]), Err(DecodeError::InvalidUtf8));
        assert_eq!(decode(&[0x08]), Err(DecodeError::Truncated));
    }
}
