"""The lines of the two device contracts, each with the tests that keep it: what is promised, and where that is tried.

Figures alone stand in `test_contract_figures`, what a whole class of calls keeps in the tests that walk all of them.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

LIFE: Mapping[str, str] = {
    "a device is told 401 only when it was deleted, and 403 never": """
        test_only_a_deleted_device_is_told_401 test_no_call_of_a_device_is_answered_403""",
    "what is gone, withdrawn or not yet theirs is 404 or 410, what is busy 503 with Retry-After": """
        test_a_withdrawn_file_is_gone_and_who_downloads_it_may_finish
        test_downloads_have_a_limit_of_their_own_and_telemetry_s_does_not_count_them""",
    # Licences
    "data is opaque and signed: RSA-2048 or Ed25519 by model; the public key can be read": """
        test_a_device_checks_the_signature_with_the_public_key test_a_licence_fits_its_device_its_size_and_its_time
        test_a_rotated_key_signs_what_comes_and_the_one_before_stays_readable""",
    "the states of a licence, and no step but those": """
        test_every_step_leads_where_the_contract_says_and_every_other_is_refused
        test_licences_keep_to_their_states_whatever_happens""",
    "an error of a step, and the same pending again": """
        test_an_error_stays_with_its_step_until_the_vendor_tries_again""",
    "every other step is 422, the same state twice is 200": """
        test_the_same_state_twice_is_fine_and_every_other_step_is_refused test_every_other_step_is_refused
        test_the_same_step_twice_is_fine""",
    "new_licenses says that something is pending": "test_what_is_pending_is_one_object_until_nothing_is",
    "at expires_at the device stops by itself, and the server marks it": """
        test_a_device_uses_what_the_vendor_signed_until_its_end test_a_licence_expires_and_then_is_to_be_removed""",
    "licences of replaced and deleted devices": """
        test_another_unit_is_offered_all_that_the_one_before_had test_another_unit_takes_over_all_that_the_device_was
        test_a_deleted_devices_licences_are_available_again""",
    "partner: list with filters, make, read, change, delete, assign, revoke, extend, retry; owner: read": """
        test_licences_are_found_by_state_device_and_model test_a_vendor_makes_reads_changes_and_deletes_licences
        test_a_change_and_a_revocation_are_offered_as_update_and_remove
        test_an_owner_sees_the_licences_of_its_devices_and_nobody_elses""",
    "each step is an event licenseUpdated": "test_licences_keep_to_their_states_whatever_happens",
    # Files and firmware
    "a file belongs to a model or to an organisation": """
        test_an_organizations_firmware_names_its_model_and_a_manual_need_not test_files_of_others_do_not_exist
        test_an_organizations_firmware_is_for_its_own_devices_of_that_model""",
    "firmware needs a version that is compared as SemVer; a leading v and 2 to 4 numbers are taken": """
        test_firmware_has_versions_that_can_be_compared test_versions_sort_as_semantic_versions_do
        test_a_firmware_version_is_normalised_and_kept_as_it_was_told""",
    "draft, released, withdrawn; new bytes, new file": """
        test_a_file_is_drafted_filled_released_and_withdrawn test_a_draft_may_be_changed_in_all_but_its_bytes
        test_a_version_is_released_once_for_a_model""",
    "SHA-256 is computed while the upload streams and compared with Content-Digest; signature is kept": """
        test_an_upload_is_what_its_sender_says_or_nothing test_a_device_learns_of_its_firmware_and_fetches_it""",
    "min_version is a stepping stone": "test_a_stepping_stone_comes_first",
    "uploads are streamed up to a limit; a cut-off one leaves nothing, a second try is clean": """
        test_what_is_too_large_is_refused_as_soon_as_it_is_known
        test_a_cut_off_upload_leaves_nothing_and_a_second_try_is_clean
        test_an_upload_may_take_long_while_it_comes_and_not_when_it_only_trickles""",
    "portal, API and command line upload with a progress bar": """
        test_how_far_an_upload_is_shows_on_a_terminal test_firmware_is_uploaded_with_its_progress_and_released""",
    "storage: five calls behind one interface, in a folder or an S3-compatible store": """
        test_what_is_put_can_be_read_by_ranges_until_it_is_deleted test_a_bucket_does_what_a_folder_does
        test_bytes_are_on_disk_before_they_have_their_name test_what_no_row_names_goes_when_it_is_not_young_any_more""",
    "download by the device's key or a signed token in the URL": """
        test_a_signed_url_needs_no_key_and_is_for_one_device_and_file""",
    "strong ETag, Accept-Ranges, one range, If-Range, 206, 416, HEAD, Content-Digest, Content-Length": """
        test_a_device_learns_of_its_firmware_and_fetches_it test_a_download_is_resumed_where_it_ended
        test_conditions_and_ranges_are_those_of_http""",
    "resumable by a modem that takes 2 KiB at a time": "test_a_modem_fetches_two_kibibytes_at_a_time",
    "own limit of concurrent downloads, outside the telemetry rate limit, ingest goes first": """
        test_downloads_have_a_limit_of_their_own_and_telemetry_s_does_not_count_them
        test_downloads_take_a_small_share_of_the_time_while_telemetry_comes""",
    "mine is the highest released version above my own whose min_version I meet": """
        test_a_device_is_told_of_the_highest_release_from_its_first_message_on
        test_what_a_device_reports_decides_what_it_is_offered_next""",
    "and whose rollout has reached me; a release without rollout is for everyone": """
        test_firmware_does_not_exist_for_whom_its_rollout_has_not_reached
        test_a_release_is_for_nobody_before_its_rollout_reaches_them""",
    "releasing rewrites replies in the background, paced, with progress, and delays no others": """
        test_a_release_reaches_the_prepared_replies_of_all_devices_of_the_model
        test_replies_that_others_wait_for_come_first test_a_sweep_goes_on_where_another_worker_died""",
    "a withdrawn file is offered to nobody; who is in mid-download finishes or gets 410": """
        test_a_withdrawn_file_is_gone_and_who_downloads_it_may_finish test_a_withdrawn_file_aborts_its_rollout""",
    # Rollouts
    "draft, scheduled, running, paused, finished, aborted; waiting for approval by a second person": """
        test_each_action_in_each_state test_a_rollout_waits_for_a_second_person
        test_a_rollout_waits_for_its_approval_and_for_its_time""",
    "waves of percent, count, labels or space, with starts_at and soak": """
        test_a_rollout_goes_through_its_waves_and_ends test_labels_and_spaces_choose_devices_of_a_wave
        test_a_rollout_and_its_waves_begin_at_their_times test_a_wave_soaks_when_all_are_through_and_then_passes""",
    "membership is a hash, frozen: growing never reshuffles": """
        test_positions_are_spread_evenly_and_other_ones_in_each_rollout
        test_a_share_that_grows_takes_devices_in_and_puts_none_out""",
    "dynamic takes in devices that come later": """
        test_devices_that_come_later_are_taken_in_where_that_is_wanted""",
    "at most max_per_minute are newly offered": "test_no_more_than_so_many_a_minute_are_newly_offered",
    "a daily window in the space's time zone; download may be allowed before": """
        test_a_window_opens_in_the_time_zone_of_each_space test_downloads_may_come_before_the_window
        test_it_is_open_by_the_clock_of_its_place""",
    "gates pause, abort or roll back; success is the next wave, or waits for a person": """
        test_a_gate_pauses_once test_a_gate_aborts test_a_gate_takes_devices_back_to_a_version
        test_a_person_lets_a_wave_pass""",
    "percentages count only from min_reported on": "test_a_percentage_counts_from_so_many_reports_on",
    "one device's part has exactly one counted outcome": """
        test_every_device_ends_in_one_outcome_whatever_happens test_a_part_ends_once_whatever_is_seen""",
    "evidence: ranges seen, command status, the reported version": """
        test_ranges_that_a_device_fetches_are_evidence test_what_evidence_makes_of_a_part""",
    "a device that falls back is offered again, up to its retries": """
        test_a_device_that_falls_back_is_offered_again_up_to_its_retries""",
    "a device that never reports times out, so that a rollout ends": """
        test_a_window_opens_in_the_time_zone_of_each_space test_what_evidence_makes_of_a_part""",
    "two channels: response map, or the command update_firmware": """
        test_a_release_is_for_nobody_before_its_rollout_reaches_them
        test_the_command_channel_sends_update_firmware""",
    "pause and abort heed at once; who installs is left alone": """
        test_who_has_begun_is_left_alone_and_nobody_else test_pause_and_abort_leave_alone_who_has_begun
        test_a_command_of_a_paused_rollout_is_not_handed_out""",
    "owner and partner: list, make, read with counts, change while it may change, actions, devices by state": """
        test_a_draft_may_become_anything test_waves_that_have_begun_stay_as_they_are
        test_a_vendor_rolls_out_to_all_devices_of_its_model test_nobody_else_knows_of_a_rollout
        test_what_does_not_fit_is_refused_by_name""",
    "events rolloutUpdated and firmwareUpdated": "test_ranges_that_a_device_fetches_are_evidence",
    "two waves over the threshold in one pass": "test_a_gate_that_has_fired_or_is_not_of_a_wave_under_way_is_quiet",
    "a rollout stuck when the server restarts; two workers; clocks": """
        test_a_killed_worker_leaves_a_rollout_between_two_steps test_every_device_ends_in_one_outcome_whatever_happens
        test_two_people_at_one_rollout_and_a_worker_leave_one_truth""",
    "a wave finished while devices still work": "test_a_wave_soaks_when_all_are_through_and_then_passes",
    "a device that changes model, owner or is deleted in mid-rollout": "test_a_device_that_leaves_is_skipped",
    # Dumps, events
    "64 MiB each, 20 a device, 30 days": "test_dumps_have_limits",
    "PUT appends under a lock, in order": """
        test_what_is_appended_at_once_is_there_once_and_whole test_lines_that_are_appended_become_few_parts""",
    "people download dumps as attachments, never rendered; stored where files are": """
        test_a_dump_is_sent_raw_appended_to_and_saved_by_a_person""",
    "deviceEvent in history, stream and webhooks": """
        test_an_event_is_kept_in_the_log_with_the_time_that_the_device_tells
        test_an_event_goes_out_to_the_webhooks_that_ask_for_it""",
    "of an unclaimed device accepted and dropped, and counted so": """
        test_of_an_unclaimed_device_events_are_accepted_dropped_and_counted""",
    # Incidents and rules
    "kinds device, user, rule; priorities 1 to 5 with names": """
        test_a_person_opens_an_incident_says_who_cares_and_closes_it test_a_priority_lies_between_1_and_5
        test_an_open_incident_counts_for_the_status_whoever_opened_it""",
    "one open incident for each device and issue": """
        test_one_incident_is_open_for_each_issue test_many_reports_of_one_issue_at_once_open_one_incident""",
    "rules for a model, project or space: comparison, for how long, hysteresis, with values": """
        test_an_owner_keeps_rules_for_a_model_a_project_or_a_space test_comparisons test_hysteresis test_duration
        test_a_rule_opens_an_incident_with_its_value_and_closes_it_beyond_the_hysteresis
        test_partners_keep_rules_for_their_models_and_nobody_sees_anothers""",
    "rules survive restarts and late messages": """
        test_for_how_long_a_rule_holds_survives_restarts_and_messages_without_its_key
        test_late_messages_neither_open_nor_close""",
    "dry run over a device's history": "test_a_dry_run_tells_what_a_rule_would_have_done",
    "suspension by device and owner; a space in maintenance opens none": """
        test_a_device_suspends_its_incidents test_its_owner_suspends_and_resumes_incidents_of_a_device
        test_a_space_in_maintenance_opens_no_incidents""",
    "while a command with a timeout runs, the device is not marked offline": """
        test_while_a_command_runs_its_device_is_not_marked_offline""",
    "an outage of ours is not the devices'": """
        test_after_an_outage_of_the_store_devices_get_time_to_be_heard test_a_frozen_edge_makes_nobody_offline""",
    "owner: list of incidents with its filters, last week by default, 500 a page": """
        test_without_a_range_the_last_week_is_listed_newest_first test_each_filter_narrows_the_list
        test_pages_are_those_of_every_list""",
    "tickets: open ones, one with comments, PUT, resolved, message; shared by owner and partner": """
        test_a_ticket_is_made_from_an_incident_and_shared_by_owner_and_partner
        test_a_ticket_is_rewritten_and_resolved_by_either_side""",
    "notes on devices and spaces": "test_notes_about_devices_and_spaces",
    # Replacement
    "another unit takes over id, name, space, config, licences, labels and history; the old one is locked out": """
        test_another_unit_takes_over_all_that_the_device_was test_the_old_unit_registers_as_nobodys""",
    "undo until the new unit registered": "test_a_replacement_is_undone_until_the_new_unit_registered",
    "the same unit after a factory reset comes back once its owner confirmed it within 24 h": """
        test_an_owner_sees_that_a_unit_asked_to_come_back
        test_the_same_unit_comes_back_once_its_owner_confirmed_it
        test_a_return_is_confirmed_within_a_day_and_used_within_another""",
    "owner and partner rotate keys with an overlap": """
        test_the_old_key_is_good_until_the_new_one_is_used
        test_the_time_ends_the_old_key_whether_the_new_one_is_used_or_not
        test_owner_and_vendor_may_rotate_and_nobody_else""",
    # What else
    "GET /info": "test_a_key_can_be_tried_out test_a_partner_key_shows_whose_it_is_and_how_cloud_ids_begin",
    "GET /models?search with parameters and commands": """
        test_models_are_found_by_a_word_and_listed_with_parameters_and_commands""",
    "users and groups": "test_people_are_listed_with_their_roles",
    "GET /devices/notes": "test_notes_about_devices_and_spaces",
    "partner: POST /organizations, GET /devices/histories": """
        test_a_vendor_makes_an_organization_that_trusts_it test_a_vendor_reads_the_histories_of_its_devices
        test_a_vendor_reads_the_histories_of_however_many_devices""",
    "definitions: active, several at once, show in panel, ask again, options": """
        test_commands_of_a_model_are_defined_changed_and_removed
        test_a_command_is_sent_while_it_is_active_and_one_of_its_options_is_chosen
        test_a_command_that_allows_no_several_is_sent_once_the_one_before_has_ended""",
}

API: Mapping[str, str] = {
    "errors are {error}, a call for its effect is {success: true}; unknown members are ignored": """
        test_hostile_bodies_are_refused_politely test_devices_may_say_what_is_not_known""",
    "Authorization: the access key; Bearer is tolerated": """
        test_a_wrong_key_is_refused_and_nothing_is_stored test_white_space_around_a_key_is_no_part_of_it
        test_no_device_speaks_as_another""",
    "mass telemetry carries access_token, alias access_key": "test_an_array_with_tokens_needs_no_other_key",
    "organisation and partner keys are bound to one tenant": """
        test_no_call_is_answered_without_a_key_of_its_kind test_no_call_reaches_what_is_another_tenants""",
    "keys are shown once and kept as a digest; comparison takes constant time": """
        test_api_keys_are_shown_once_listed_and_revoked_but_not_by_themselves
        test_a_hardware_key_is_shown_once_counts_its_use_and_ends
        test_no_secret_is_compared_character_by_character""",
    "a deleted device's calls get 401": "test_a_deleted_device_is_unknown_everywhere",
    "the device flow": """
        test_an_agent_lives_its_whole_life
        test_a_public_agent_lives_through_config_commands_firmware_dump_and_licence""",
    "POST devices: answers, errors": """
        test_a_device_gets_an_identity_that_works_at_once test_a_registration_that_does_not_fit_says_why
        test_a_serial_number_is_taken_once_until_its_device_is_deleted test_a_model_may_ask_for_cloud_ids""",
    "a registration is repeatable until the device is heard of": """
        test_a_registration_whose_answer_was_lost_is_repeated test_a_registration_is_repeated_only_by_who_made_it""",
    "bulk_create: results in order": "test_many_devices_at_once_each_get_their_own_answer",
    "children": """
        test_children_belong_to_their_parent_and_are_claimed_with_it
        test_the_registration_of_a_child_is_repeated_until_it_is_heard_of""",
    "telemetry: 201 and the response map": "test_an_accepted_message_is_in_the_stream",
    "children/telemetries: maps, arrays, mass form, an id that stands twice": """
        test_a_parent_reports_for_its_children_and_nobody_elses
        test_many_messages_in_one_request_each_get_their_own_answer
        test_an_offline_device_sends_its_batch_as_an_array
        test_a_device_that_stands_twice_is_refused_with_the_whole""",
    "command and pending_commands: first in, first out; {} when there is none": """
        test_commands_come_first_in_first_out_and_one_at_a_time test_a_parent_sees_what_waits_for_its_children""",
    "POST command: aliases, 404 no command, 422": "test_a_final_status_may_be_told_twice_but_not_changed",
    "config: versions, acknowledgement, the whole answer sent back, 422 of an old version": """
        test_config_is_read_and_set_under_versions_that_only_grow
        test_the_current_config_sent_back_is_an_acknowledgement""",
    "GET and PUT of the device; an unknown member is 400; 10 calls an hour": """
        test_a_device_reads_itself_and_its_place test_a_device_tells_each_member_that_it_may
        test_what_is_new_is_told_and_nothing_else""",
    "DELETE removes the device": "test_a_deleted_device_is_unknown_everywhere",
    "cloud_settings in both forms": """
        test_cloud_settings_are_kept_for_the_device test_a_device_suspends_its_incidents""",
    "space and space/move; 422 Device not in space": """
        test_every_answer_tells_what_changed_and_versions_only_grow test_a_device_reads_itself_and_its_place""",
    "license: the first pending, one object; licenses: all": "test_what_is_pending_is_one_object_until_nothing_is",
    "POST licenses: states, pending changes nothing, 404, 422": """
        test_a_licence_that_is_only_verified_stays_pending_and_holds_up_no_other test_a_licence_is_its_devices_own""",
    "files: 400 File not found, url is ours": """
        test_what_is_not_the_devices_does_not_exist test_a_device_learns_of_its_firmware_and_fetches_it""",
    "dumps raw or multipart; mime URL-encoded; 422 Data can't be blank": """
        test_forms_carry_dumps_in_the_field_data test_names_and_types_are_taken_as_devices_write_them
        test_what_cannot_be_a_dump_is_refused_and_leaves_nothing""",
    "events: {status: true}": "test_what_is_no_event_is_refused_by_its_member",
    "incidents: POST, GET, DELETE one of its own or a person's, DELETE all that it opened": """
        test_without_an_issue_the_title_is_the_issue
        test_a_device_closes_its_own_and_those_of_people_and_none_of_a_rule
        test_after_a_reboot_a_device_closes_all_that_it_opened""",
    # Telemetry
    "values of 64 bits, strings of 1,000 bytes, nested values are 422, over 128 KiB is 413, NaN is refused": """
        test_integers_and_floats_have_64_bits test_hostile_bodies_get_a_sentence
        test_a_message_over_the_limit_is_413_and_the_connection_ends""",
    "null removes a key; override replaces the state; a late message changes nothing newer": """
        test_any_order_of_arrival_gives_the_state_of_the_order_of_time
        test_a_late_message_still_changes_nothing_newer""",
    "a wrong clock does not freeze a state": """
        test_a_message_from_the_future_freezes_nothing test_a_time_from_before_the_registration_counts_as_none""",
    "times as clients print them": "test_a_time_is_read_as_clients_print_it",
    "a state has a limit in keys and bytes": """
        test_a_full_state_takes_no_new_keys_and_keeps_the_known_ones_up_to_date test_a_state_has_a_limit_of_bytes""",
    "the response map tells all that is new, versions only grow": """
        test_every_answer_tells_what_changed_and_versions_only_grow""",
    "last_seen moves on any call": "test_any_call_shows_that_the_device_lives",
    "the sweep opens the offline incident and closes it": """
        test_a_device_goes_offline_once_past_its_models_threshold test_the_next_message_brings_it_back""",
    "every call counts, 429 with Retry-After, by model": """
        test_every_call_counts_against_the_limit test_calls_beyond_the_limit_are_refused_on_the_hot_path
        test_a_new_rate_limit_puts_the_devices_in_line_for_a_new_reply""",
    # Commands
    "scheduled, pending, in_progress, done, failed, aborted; time-outs": """
        test_a_scheduled_command_waits_for_its_time test_a_command_times_out_from_its_first_delivery
        test_a_command_that_nobody_fetches_expires_after_seven_days
        test_scheduled_and_pending_commands_can_be_cancelled""",
    "update_firmware with url, version, checksum, signature": """
        test_a_command_with_a_file_tells_where_to_fetch_it test_the_command_channel_sends_update_firmware""",
    "effective_status, first match": "test_the_first_match_wins",
    # Claiming
    "proof by MAC and serial or Cloud ID; a wrong pair and an unknown one get the same answer": """
        test_a_device_is_claimed_by_mac_and_serial_however_the_mac_is_spelt test_a_device_is_claimed_by_cloud_id
        test_wrong_unknown_and_foreign_proofs_get_the_same_answer""",
    "QR https://<portal>/c/<cloud id>": "test_the_code_on_a_device_leads_to_its_claim",
    "deleting a claimed device ends its keys": "test_a_deleted_device_is_gone_and_its_key_is_marked",
    # Organisation and partner API
    "devices: pages of at most 100": """
        test_a_list_holds_own_living_devices_of_a_project_or_a_subtree test_a_query_that_does_not_fit_is_422""",
    "GET, PATCH, DELETE of a device with all its members": """
        test_a_device_shows_all_that_the_contract_names test_the_config_can_be_changed_with_the_device
        test_no_call_takes_what_it_does_not_know""",
    "claim: 422 with the field at fault; blank is absent; serials are trimmed": """
        test_a_malformed_claim_names_the_field_at_fault test_what_is_blank_in_a_claim_is_absent
        test_a_serial_number_is_trimmed_at_every_door""",
    "move; histories": """
        test_a_move_takes_along_the_children_in_the_same_space test_filters_narrow_the_list
        test_a_range_that_does_not_fit_is_422""",
    "commands by name or friendly name, with parameters, file and time; lists; cancelling": """
        test_a_command_goes_out_by_name_or_by_friendly_name test_a_command_that_does_not_fit_is_422
        test_commands_are_listed_newest_first_by_status_and_page""",
    "spaces: list, make, change, delete, find_or_create": """
        test_spaces_are_found_by_id_by_name_and_by_part_of_their_path test_a_space_changes_by_put_as_by_patch
        test_find_or_create_makes_what_is_missing_and_finds_the_rest test_the_project_of_a_space_need_not_be_named
        test_only_an_empty_space_can_be_deleted""",
    "hardware keys, files, licences, configs: filters and paging": """
        test_files_are_listed_newest_first_by_model_type_and_status test_configs_are_listed_and_found_as_devices_are
        test_short_lists_have_pages_too""",
    "a partner sees its models' devices and cannot send commands": """
        test_a_partner_sees_the_devices_of_its_models_whoever_owns_them
        test_a_partner_reads_state_config_commands_and_history test_a_partner_cannot_send_commands""",
}


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The names of all tests."""
    here = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
    return {name for path in TESTS.rglob("test_*.py") for name in here.findall(path.read_text())}


@pytest.mark.parametrize("contract", [LIFE, API], ids=["device-life", "device-api"])
def test_every_line_of_the_contract_has_a_test(contract: Mapping[str, str], tests: set[str]) -> None:
    """A test that is renamed is renamed here; one that is taken away leaves its line to others."""
    assert {line: gone for line, names in contract.items() if (gone := set(names.split()) - tests)} == {}
