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
#[path = "h2/contract.rs"]
mod contract;
#[path = "h2/floods.rs"]
mod floods;
#[path = "h2/flow.rs"]
mod flow;
#[path = "h2/handshake.rs"]
mod handshake;
#[path = "h2/leaving.rs"]
mod leaving;
#[path = "h2/management.rs"]
mod management;
#[path = "h2/queue_ends.rs"]
mod queue_ends;
#[path = "h2/queue_polls.rs"]
mod queue_polls;
#[path = "h2/queue_settlements.rs"]
mod queue_settlements;
#[path = "h2/queue_single.rs"]
mod queue_single;
#[path = "h2/queue_unary.rs"]
mod queue_unary;
#[path = "h2/queue_upstream.rs"]
mod queue_upstream;
#[path = "h2/queues.rs"]
mod queues;
#[path = "h2/random.rs"]
mod random;
#[path = "h2/routing.rs"]
mod routing;
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
        calls_taken_back_together_are_no_flood,
        calls_that_make_it_reset_are_bounded,
        frames_without_work_are_bounded,
        inflated_messages_of_calls_without_end_are_bounded,
        messages_that_never_end_are_bounded,
        references_to_fields_are_bounded,
        window_updates_are_bounded,
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
    management:
        a_command_is_told_to_be_a_query,
        a_created_channel_is_listed_before_it_is_used,
        a_deleted_channel_is_gone_with_all_it_had,
        a_list_has_exactly_the_keys_of_its_kind,
        a_long_list_is_one_answer,
        a_purged_channel_is_empty_and_numbers_on,
        a_search_finds_names_that_hold_its_text,
        an_empty_list_is_an_empty_array,
        creating_what_is_there_and_deleting_what_is_not_succeeds,
        events_are_listed_with_what_came_and_went,
        nobody_else_serves_the_channel_of_management,
        queues_are_listed_with_what_is_in_them,
        queues_info_is_exact,
        queues_info_takes_names_and_leaves_out_unknown_ones,
        requests_are_listed_with_their_responses,
        requests_of_every_sdk_are_accepted,
        stored_events_are_listed_with_what_came_and_went,
        what_cannot_be_done_is_an_error_in_an_ordinary_answer;
    queue_ends:
        a_half_close_ends_the_call_and_returns_what_is_unsettled,
        a_poll_of_a_client_that_is_gone_takes_nothing,
        an_automatic_poll_runs_to_its_end_behind_a_half_close,
        vanished_consumers_leave_nothing_behind,
        what_a_broken_stream_held_counts_as_received,
        what_came_before_a_half_close_is_answered;
    queue_polls:
        a_client_that_does_not_read_hurts_only_itself,
        a_poll_has_one_answer_with_its_id_and_type,
        a_poll_right_behind_a_settlement_sees_its_effect,
        a_refused_poll_carries_the_type_of_a_poll,
        a_waiting_poll_blocks_nothing_behind_it,
        a_waiting_poll_is_woken_by_the_first_message,
        an_answer_stays_below_four_mebibytes_but_for_one_message,
        an_answer_that_was_not_taken_acknowledges_nothing,
        an_automatic_acknowledgement_settles_what_it_delivers,
        an_empty_poll_is_answered_at_the_end_of_its_wait,
        an_open_transaction_hides_no_more_than_it_holds,
        many_messages_fit_one_answer,
        messages_carry_their_attributes,
        polls_of_one_queue_are_served_in_turn,
        polls_wait_side_by_side_on_one_stream,
        sends_are_answered_in_time_while_polls_wait_and_settle;
    queue_settlements:
        a_close_without_a_transaction_is_silent,
        a_list_is_settled_up_to_its_first_wrong_number,
        a_request_without_a_meaning_is_unknown,
        a_settlement_of_all_ignores_its_list,
        a_settlement_that_fails_is_told_and_the_stream_goes_on,
        a_settlement_that_succeeds_is_silent,
        a_status_tells_what_is_open,
        a_transaction_belongs_to_its_stream,
        a_transaction_is_complete_with_its_last_message,
        a_visibility_ends_the_lease_and_a_late_settlement_is_refused,
        transactions_are_open_side_by_side,
        what_is_nacked_for_the_last_time_is_a_dead_letter,
        what_is_requeued_begins_anew_in_its_order;
    queue_single:
        a_bad_request_is_told_and_the_stream_goes_on,
        a_broken_stream_returns_the_message_to_its_place_counted,
        a_half_close_returns_the_message_uncounted,
        a_message_ends_the_wait,
        a_message_rejected_for_the_last_time_is_a_dead_letter,
        a_modified_message_takes_the_place_of_the_received_one,
        a_rejected_message_goes_to_the_tail_counted,
        a_resent_message_begins_anew_elsewhere,
        a_settlement_right_before_a_half_close_counts,
        a_stream_receives_once,
        a_visibility_may_be_set_anew,
        a_wrong_sequence_settles_nothing,
        an_acknowledged_message_is_gone_and_the_call_is_over,
        an_empty_wait_is_told_and_ends_the_call,
        the_end_of_the_visibility_ends_the_call;
    queue_unary:
        a_batch_is_answered_in_its_order,
        a_batch_that_cannot_be_decoded_stores_nothing,
        a_receive_answers_at_once_with_what_is_there,
        a_receive_that_is_given_up_takes_nothing,
        acknowledging_all_removes_what_is_visible,
        an_answer_that_was_not_read_loses_nothing,
        an_answer_to_a_receive_stays_below_four_mebibytes,
        receives_that_nobody_reads_hurt_only_themselves,
        receives_wait_side_by_side_and_are_served_in_turn;
    queue_upstream:
        a_bad_message_is_told_in_its_place,
        a_bad_request_to_send_is_told_and_the_stream_goes_on,
        a_sender_that_reads_no_answers_is_held_back,
        a_small_request_is_answered_in_time_beside_a_large_one,
        answers_come_in_the_order_of_requests_through_a_half_close,
        vanished_senders_leave_nothing_behind;
    random:
        random_frames_do_no_harm;
    routing:
        a_batch_has_one_result_for_each_message,
        a_dead_letter_queue_is_one_queue,
        a_failure_names_its_target_and_the_others_get_their_copies,
        a_list_of_names_is_of_the_senders_kind,
        a_route_has_its_bounds,
        a_stream_tells_stored_events_and_failures_in_order,
        a_target_of_the_senders_kind_is_needed,
        an_upstream_has_one_result_for_each_message,
        blanks_empty_parts_and_repetitions_do_not_count,
        each_prefix_leads_to_its_kind,
        ids_are_kept_and_made_for_each_copy_where_there_is_none,
        policies_go_from_queue_to_queue,
        requests_and_receivers_are_never_routed,
        what_is_wrong_with_the_message_itself_is_told_as_ever;
    spec:
        h2spec_passes;
    stored:
        a_position_stays_while_pings_are_not_answered,
        a_publisher_that_reads_no_results_is_held_back,
        results_of_pipelined_events_come_in_order_through_a_half_close,
        what_a_lost_connection_left_unread_is_delivered_again,
        what_a_reset_threw_away_is_delivered_again;
}

#[test]
fn streams_of_queues_end_with_unavailable_when_the_broker_ends() {
    for cores in [1, 4] {
        let broker = Broker::start(cores);
        queue_ends::a_broker_that_ends_says_unavailable_and_counts_nothing(broker);
    }
}

#[test]
fn receives_end_with_unavailable_when_the_broker_ends() {
    for cores in [1, 4] {
        let broker = Broker::start(cores);
        queue_unary::a_broker_that_ends_answers_its_receives(broker);
    }
}

#[test]
fn created_channels_survive_a_restart_and_a_kill() {
    for cores in [1, 4] {
        management::created_channels_survive_a_restart_and_a_kill(cores);
    }
}

#[test]
fn a_routing_table_names_the_targets_of_keys_and_is_read_again() {
    for cores in [1, 4] {
        routing::a_table_names_the_targets_of_keys_and_is_read_again(cores);
    }
}

#[test]
fn a_routing_table_stands_in_the_configuration_and_a_bad_one_is_no_start() {
    routing::a_table_stands_in_the_configuration_and_a_bad_one_is_no_start();
}
