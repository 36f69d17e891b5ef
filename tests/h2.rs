//! The broker against a peer that breaks the protocol, floods it, stalls or vanishes. Each case
//! runs with one and with four shards; after each, others are served and the broker ends cleanly.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "h2/calls.rs"]
mod calls;
#[path = "h2/floods.rs"]
mod floods;
#[path = "h2/flow.rs"]
mod flow;
#[path = "h2/handshake.rs"]
mod handshake;
#[path = "h2/leaving.rs"]
mod leaving;
#[path = "h2/random.rs"]
mod random;
#[path = "h2/spec.rs"]
mod spec;
#[path = "h2/stored.rs"]
mod stored;

use harness::Broker;
use mock::broker::Watched;

fn run(cores: usize, case: fn(&Broker)) {
    let broker = Broker::start(cores);
    case(&broker);
    broker.assert_serves();
    broker.end();
}

macro_rules! with_one_and_four_shards {
    ($($module:ident: $($case:ident),+;)+) => {
        mod one_shard {
            $($(#[test] fn $case() { super::run(1, super::$module::$case); })+)+
        }
        mod four_shards {
            $($(#[test] fn $case() { super::run(4, super::$module::$case); })+)+
        }
    };
}

with_one_and_four_shards! {
    calls:
        a_compressed_message_without_an_encoding_is_an_error,
        a_compression_bomb_is_refused,
        a_get_request_is_not_a_call,
        a_message_cut_at_the_end_of_the_stream_is_an_error,
        a_message_prefix_of_four_gibibytes_is_refused_at_once,
        a_method_that_does_not_exist_is_unimplemented,
        an_unknown_content_type_is_an_unsupported_media_type,
        streams_above_the_limit_are_refused_and_the_others_served;
    floods:
        continuation_frames_without_end_end_the_connection,
        empty_data_frames_are_bounded,
        huge_header_lists_are_refused,
        pings_are_answered_one_by_one,
        pings_are_bounded,
        pings_whose_answers_are_not_read_are_bounded,
        rapid_reset_is_bounded,
        rapid_reset_of_subscriptions_is_bounded,
        settings_frames_are_bounded,
        settings_frames_whose_answers_are_not_read_are_bounded;
    flow:
        a_slow_subscriber_hurts_only_itself,
        a_window_beyond_its_limit_is_a_flow_control_error,
        a_window_update_of_zero_is_a_protocol_error,
        answers_that_nobody_reads_are_bounded,
        data_beyond_the_window_is_bounded;
    handshake:
        a_client_that_never_speaks_is_thrown_out,
        a_wrong_preface_ends_the_connection,
        garbage_after_the_preface_ends_the_connection;
    leaving:
        a_client_that_says_goaway_gets_its_answers,
        vanished_clients_leave_nothing_behind;
    random:
        random_frames_do_no_harm;
    spec:
        h2spec_passes;
    stored:
        a_position_stays_while_pings_are_not_answered,
        a_publisher_that_reads_no_results_is_held_back,
        results_of_pipelined_events_come_in_order_through_a_half_close,
        what_a_lost_connection_left_unread_is_delivered_again,
        what_a_reset_threw_away_is_delivered_again;
}
