"""The lines that keep promises, each with a way to break it and the test that must fail then.

A new promise adds its line here. `make mutants` breaks them one at a time; `tests/unit/test_mutants.py` looks that each
is still there.
"""

from typing import NamedTuple

UNIT, HOT, V2 = "tests/unit", "tests/integration/hot", "tests/integration/v2"
BACK = "tests/faults/test_going_back.py"
WORKERS, DISPATCHER = "tests/integration/workers", "tests/integration/dispatcher"
IMPORTER = "tests/integration/importer"
ROLLOUTS = "tests/integration/rollouts"


class Mutant(NamedTuple):
    """A line of a file, which occurs once in it, and what it is replaced with; the test that must notice."""

    promise: str
    file: str
    line: str
    broken: str
    test: str


MUTANTS = (
    Mutant(
        "every character of an access key counts",
        "schemas/ids.py",
        "hmac.compare_digest(version + mac.hexdigest().encode(), key)",
        "hmac.compare_digest((version + mac.hexdigest().encode())[:30], key[:30])",
        f"{UNIT}/schemas/test_ids.py::test_every_character_of_an_access_key_counts",
    ),
    Mutant(
        "the last digits of an access key count",
        "schemas/ids.py",
        "hmac.compare_digest(version + mac.hexdigest().encode(), key)",
        "hmac.compare_digest((version + mac.hexdigest().encode())[:24], key[:24])",
        f"{UNIT}/schemas/test_ids.py::test_every_character_of_an_access_key_counts",
    ),
    Mutant(
        "an old key is refused at the edge",
        "gateway/ingest/ingest.py",
        "if value[26] == replies.DELETED or (value[16:18] != key_version and value[14:16] != key_version):",
        "if value[26] == replies.DELETED:",
        f"{HOT}/test_telemetry.py::test_a_key_of_another_version_than_the_reply_names_is_refused",
    ),
    Mutant(
        "a device's calls are limited",
        "gateway/ingest/call_limit.py",
        "if total > limit:",
        "if total > 1e9:",
        f"{HOT}/test_telemetry.py::test_calls_beyond_the_limit_are_refused_on_the_hot_path",
    ),
    Mutant(
        "telemetry is shed before Redis is full",
        "gateway/ingest/pressure.py",
        'info["used_memory"] > limit * self._memory_ratio',
        'info["used_memory"] > limit * 1e9',
        f"{HOT}/test_telemetry.py::test_telemetry_is_shed_while_redis_is_nearly_full",
    ),
    Mutant(
        "a data connector is read in its project",
        "gateway/stores/connectors/data_connectors.py",
        'WHERE project_id = $1 AND id = $2", project_id, connector_id',
        'WHERE $1::uuid IS NOT NULL AND id = $2", project_id, connector_id',
        f"{V2}/test_walls.py::test_a_way_through_ones_own_project_does_not_lead_to_anothers",
    ),
    Mutant(
        "a data connector is held for change in its project",
        "gateway/stores/connectors/data_connectors.py",
        "WHERE project_id = $1 AND id = $2 FOR NO KEY UPDATE",
        "WHERE $1::uuid IS NOT NULL AND id = $2 FOR NO KEY UPDATE",
        f"{V2}/test_walls.py::test_a_way_through_ones_own_project_does_not_lead_to_anothers",
    ),
    Mutant(
        "a device of another project is not told from none",
        "gateway/v2/devices.py",
        "found = await device_in(services, device, scope.id)",
        "found = await device_in(services, device)",
        f"{V2}/test_walls.py::test_a_way_through_ones_own_project_does_not_lead_to_anothers",
    ),
    Mutant(
        "a replay is of the project's events",
        "workers/dispatcher/slices.py",
        "WHERE project_id = $5 AND shard = s.shard AND shard = ANY($1) AND seq >= s.low AND seq < s.high\n"
        "              AND stored_at >= s.since\n            ORDER BY project_id, shard, seq LIMIT $6",
        "WHERE $5::uuid IS NOT NULL AND shard = s.shard AND shard = ANY($1) AND seq >= s.low AND seq < s.high\n"
        "              AND stored_at >= s.since\n            ORDER BY project_id, shard, seq LIMIT $6",
        f"{DISPATCHER}/test_jobs.py::test_a_replay_owes_the_events_of_its_range_types_and_project_a_slice_at_a_time",
    ),
    Mutant(
        "a window is of the connector's project",
        "workers/dispatcher/reading.py",
        "SELECT * FROM events WHERE project_id = $5 AND shard = s.shard",
        "SELECT * FROM events WHERE $5::uuid IS NOT NULL AND shard = s.shard",
        f"{DISPATCHER}/test_delivery.py::test_a_connector_that_catches_up_gets_events_of_its_project_only",
    ),
    Mutant(
        "what was in flight with a dead owner is due at once",
        "workers/dispatcher/store.py",
        'WHERE connector_id = ANY($1) AND cause = \'in_flight\'""",',
        "WHERE connector_id = ANY($1) AND cause = 'in_flight' AND $2 < now() - interval '1 day'\"\"\",",
        f"{DISPATCHER}/test_ownership.py::test_what_was_in_flight_with_a_dead_owner_is_sent_again",
    ),
    Mutant(
        "a queue in memory is bounded",
        "workers/dispatcher/tail.py",
        "if len(connector.queue.fresh) >= FRESH_MAX:",
        "if len(connector.queue.fresh) >= 1e9:",
        f"{DISPATCHER}/test_delivery.py::test_what_a_hanging_receiver_is_owed_stays_in_the_log",
    ),
    Mutant(
        "silence is not failure",
        "workers/dispatcher/failing.py",
        "failing_since <= $2 AND last_attempt_at > $3",
        "failing_since <= $2 AND $3::timestamptz IS NOT NULL",
        f"{DISPATCHER}/test_five_days.py::test_silence_is_not_failure",
    ),
    Mutant(
        "a stream that is behind its offset is not whole",
        "workers/flusher/stream.py",
        "elif _last_id(info) < _parts(offset):",
        "elif _last_id(info) < (0, 0):",
        f"{WORKERS}/test_flusher.py::test_a_redis_restored_from_an_older_copy_goes_on_above_the_offset",
    ),
    Mutant(
        "the offset is read under the shard's lock",
        "workers/flusher/storing.py",
        "WHERE shard = ANY($1::smallint[]) ORDER BY shard FOR NO KEY UPDATE",
        "WHERE shard = ANY($1::smallint[]) ORDER BY shard",
        f"{WORKERS}/test_flusher.py::test_a_flusher_waits_for_whoever_holds_its_shard_and_reads_the_offset_then",
    ),
    Mutant(
        "a day without a partition gets one",
        "workers/flusher/storing.py",
        "            return await self._transact(batch, positions)\n\n    async def _transact",
        "            raise\n\n    async def _transact",
        f"{WORKERS}/test_midnight.py::test_the_first_batch_of_a_day_makes_the_partition_that_nobody_made",
    ),
    Mutant(
        "what Postgres refuses is set aside alone",
        "workers/flusher/storing.py",
        "return await self._store(await self._isolate(batch), positions)",
        "raise",
        f"{WORKERS}/test_flusher.py"
        "::test_a_message_that_postgres_refuses_is_set_aside_and_the_others_of_its_batch_are_stored",
    ),
    Mutant(
        "numbers of events are not given twice where Postgres went back",
        "workers/flusher/flusher.py",
        "SET next_seq = greatest(next_seq, $2)",
        "SET next_seq = least(next_seq, $2)",
        f"{BACK}::test_postgres_restored_to_an_earlier_point_loses_nothing_that_is_kept",
    ),
    Mutant(
        "a Postgres at an earlier point begins a new generation",
        "workers/postgres_history.py",
        "went_back = now.identity != known.identity or now.heartbeat <= known.heartbeat",
        "went_back = now.identity != known.identity",
        f"{BACK}::test_a_device_that_registered_in_the_span_that_is_gone_registers_again",
    ),
    Mutant(
        "entries with ids below the offset are moved above it",
        "workers/flusher/stream.py",
        "elseif named == server then below[#below + 1] = entry end",
        "elseif false then below[#below + 1] = entry end",
        f"{BACK}::test_redis_succeeded_by_one_with_a_clock_behind_loses_nothing_it_acknowledged",
    ),
    Mutant(
        "a primary that is one no more is left",
        "gateway/ingest/round_trips.py",
        "this connection never will.\n            lane.pipe.abort()",
        "this connection never will.\n            pass",
        f"{BACK}::test_redis_succeeded_by_one_with_a_clock_behind_loses_nothing_it_acknowledged",
    ),
    Mutant(
        "when a device was last seen never goes back",
        "workers/flusher/state_rows.py",
        "last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at)",
        "last_seen_at = excluded.last_seen_at",
        f"{WORKERS}/test_flusher.py::test_when_a_device_was_last_seen_never_goes_back",
    ),
    Mutant(
        "a late message opens and closes nothing",
        "workers/flusher/watch.py",
        "if not rules or (late and at < state.time_of(key)):",
        "if not rules:",
        f"{WORKERS}/test_incident_rules.py::test_late_messages_neither_open_nor_close",
    ),
    Mutant(
        "a rule counts from the next message on",
        "workers/flusher/rules.py",
        "if revision == self._revision:",
        "if self._revision is not None:",
        f"{WORKERS}/test_incident_rules.py::test_a_rule_counts_from_the_next_message_on_and_so_does_a_change_of_it",
    ),
    Mutant(
        "what could not be opened is tried again",
        "workers/flusher/rule_incidents.py",
        "            watch.put_off(step)",
        "            pass",
        f"{WORKERS}/test_incident_rules.py::test_what_could_not_be_opened_is_opened_when_it_can_be",
    ),
    Mutant(
        "an older reply never takes the place of a newer one",
        "schemas/replies.py",
        "if not known or string.sub(known, 1, 16) < string.sub(ARGV[i + 1], 1, 16) then",
        "if true then",
        f"{WORKERS}/test_replies.py::test_an_older_reply_never_takes_the_place_of_a_newer_one",
    ),
    Mutant(
        "the sweep holds the shard while it decides",
        "workers/offline.py",
        'FOR UPDATE", shard)\n            rows = await connection.fetch(',
        '", shard)\n            rows = await connection.fetch(',
        f"{WORKERS}/test_offline.py::test_the_sweep_waits_for_a_flusher_that_holds_the_shard",
    ),
    Mutant(
        "a command that was fetched does not expire",
        "schemas/migrations/0020_command_clock.sql",
        "WHEN NEW.delivered_at IS NOT NULL THEN",
        "WHEN NEW.delivered_at IS NOT NULL AND NEW.status <> ''pending'' THEN",
        f"{WORKERS}/test_command_clock.py::test_a_command_that_was_fetched_does_not_expire_as_if_it_had_not_been",
    ),
    Mutant(
        "a slot is let go after its work has ended",
        "workers/shares.py",
        "        await self._end({slot})\n"
        '        await session.execute("SELECT pg_advisory_unlock($1, $2)", self._class, slot)\n',
        '        await session.execute("SELECT pg_advisory_unlock($1, $2)", self._class, slot)\n'
        "        await self._end({slot})\n",
        f"{WORKERS}/test_shares.py::test_a_slot_is_let_go_only_after_the_step_that_was_under_way",
    ),
    Mutant(
        "vendors' telemetry makes no stream",
        "workers/importer/telemetry.py",
        "nomkstream=True",
        "nomkstream=False",
        f"{IMPORTER}/test_readings.py::test_telemetry_makes_no_stream",
    ),
    Mutant(
        "a name that a person gave stays through the vendor's renames",
        "workers/importer/diff.py",
        "name = CASE WHEN d.name = ch.was THEN ch.name ELSE d.name END,",
        "name = ch.name,",
        f"{IMPORTER}/test_model.py::test_every_short_life_of_a_device_goes_as_the_table_says",
    ),
    Mutant(
        "what a person deleted does not come back with the next list",
        "workers/importer/comparing.py",
        "OR (c.excluded IS NULL AND {_LISTED}",
        "OR ({_LISTED}",
        f"{IMPORTER}/test_model.py::test_every_short_life_of_a_device_goes_as_the_table_says",
    ),
    Mutant(
        "a device that was missing is back when it is listed again",
        "workers/importer/comparing.py",
        "c.device_id IS NULL OR c.excluded = 'missing'\n",
        "c.device_id IS NULL\n",
        f"{IMPORTER}/test_model.py::test_every_short_life_of_a_device_goes_as_the_table_says",
    ),
    Mutant(
        "what a person agreed to is that list and no other",
        "workers/importer/holding.py",
        "held.confirmed == digests.whole",
        "held.confirmed",
        f"{IMPORTER}/test_losing.py::test_a_confirmation_is_for_the_list_that_was_seen",
    ),
    Mutant(
        "what a vendor renames is told to the device",
        "workers/importer/diff.py",
        "info_version = d.info_version + (d.name = ch.was AND ch.name <> ch.was)::int,",
        "info_version = d.info_version,",
        f"{IMPORTER}/test_contract.py::test_a_device_renamed_there_is_renamed_here_unless_a_user_named_it",
    ),
    Mutant(
        "what a connector does not want is not sent to it",
        "workers/dispatcher/request.py",
        "return not self.event_types or event_type in self.event_types",
        "return True",
        f"{DISPATCHER}/test_delivery.py::test_a_changed_configuration_holds_for_the_next_attempt",
    ),
    Mutant(
        "bytes of a file are on disk before a row names them",
        "schemas/blobs/folder.py",
        "        os.fsync(descriptor)\n        path.rename",
        "        path.rename",
        f"{UNIT}/schemas/test_folder_store.py::test_a_full_or_failing_disk_is_a_store_that_is_away",
    ),
    Mutant(
        "bytes that are named again meanwhile are not deleted",
        "workers/file_janitor.py",
        "await blob_references.lock(connection, name)",
        "pass",
        f"{WORKERS}/test_file_janitor.py::test_what_is_named_again_meanwhile_stays",
    ),
    Mutant(
        "only a deleted device is told 401 by a download",
        "gateway/api/callers/devices.py",
        "    else:\n        raise NotFound(FILE_UNKNOWN)\n    return device",
        "    else:\n        raise Unauthenticated\n    return device",
        "tests/integration/device/test_downloads.py::test_only_a_deleted_device_is_told_401",
    ),
    Mutant(
        "a token is for one file",
        "schemas/download_tokens.py",
        "said = device_id.bytes + file_id.bytes + until.encode()",
        "said = device_id.bytes + until.encode()",
        "tests/integration/device/test_downloads.py::test_a_signed_url_needs_no_key_and_is_for_one_device_and_file",
    ),
    Mutant(
        "a device that registers while firmware is released is offered it",
        "schemas/firmware.py",
        '"SELECT FROM device_models WHERE id = $1 FOR UPDATE"',
        '"SELECT FROM device_models WHERE id = $1"',
        f"{WORKERS}/test_firmware_sweep.py::test_who_registers_while_firmware_is_released_is_offered_it",
    ),
    Mutant(
        "what a device told its owner is not the next one's",
        "gateway/stores/files/dumps.py",
        "WHERE device_id = $1 AND organization_id = $2 AND ($3::uuid IS NULL OR id < $3)",
        "WHERE device_id = $1 AND ($2::uuid IS NULL OR true) AND ($3::uuid IS NULL OR id < $3)",
        "tests/integration/device/test_dumps.py::test_what_a_device_told_its_owner_is_not_the_next_ones",
    ),
    Mutant(
        "nobody outside the waves that have begun is offered firmware",
        "workers/rollouts/rollouts.py",
        "p.state = 'waiting' AND p.wave BETWEEN 1 AND $2\n                  AND ($3",
        "p.state = 'waiting' AND p.wave <= $2\n                  AND ($3",
        f"{ROLLOUTS}/test_rollouts.py::test_labels_and_spaces_choose_devices_of_a_wave",
    ),
    Mutant(
        "no more devices a minute are offered firmware than may be",
        "workers/rollouts/rollouts.py",
        "most = min(most, rollout.max_per_minute - lately)",
        "most = min(most, rollout.max_per_minute)",
        f"{ROLLOUTS}/test_against_a_model.py",
    ),
    Mutant(
        "the gate of a wave fires once",
        "workers/rollouts/waves.py",
        "if wave.fired or wave.status not in",
        "if wave.status not in",
        f"{ROLLOUTS}/test_rollouts.py::test_a_gate_pauses_once",
    ),
    Mutant(
        "a device that began and was not heard of again has failed",
        "workers/rollouts/waves.py",
        'counts.get("timed_out", _NONE).begun',
        "0",
        f"{UNIT}/workers/rollouts/test_rollout_gates.py",
    ),
    Mutant(
        "a device that never began is no failure for a gate",
        "workers/rollouts/waves.py",
        'counts.get("timed_out", _NONE).begun',
        'counts.get("timed_out", _NONE).devices',
        f"{UNIT}/workers/rollouts/test_rollout_gates.py",
    ),
    Mutant(
        "the target version is success, whatever became of the command",
        "workers/rollouts/parts.py",
        'if part.state == "waiting" else _end(part, "succeeded")',
        'if part.state == "waiting" or seen.command == "failed" else _end(part, "succeeded")',
        f"{UNIT}/workers/rollouts/test_rollout_parts.py",
    ),
    Mutant(
        "a paused rollout takes back what nobody has begun",
        "workers/rollouts/rollouts.py",
        'self._rollout.status != "running",\n        )',
        "False,\n        )",
        f"{ROLLOUTS}/test_rollouts.py::test_a_release_is_for_nobody_before_its_rollout_reaches_them",
    ),
    Mutant(
        "each part is counted where it is, and nowhere else",
        "workers/rollouts/moving.py",
        'counted.append((wave, change.was.state, -1, -int(change.row["begun"])))',
        "counted.append((wave, change.was.state, -1, 0))",
        f"{ROLLOUTS}/test_against_a_model.py",
    ),
    Mutant(
        "a command of a paused rollout is not handed out",
        "gateway/stores/commands/delivery.py",
        "r.id = commands.rollout_id AND r.status = 'running'",
        "r.id = commands.rollout_id",
        f"{ROLLOUTS}/test_rollouts.py::test_a_command_of_a_paused_rollout_is_not_handed_out",
    ),
    Mutant(
        "firmware does not exist for whom its rollout has not reached",
        "gateway/stores/files/reach.py",
        "WHERE r.open_to_all OR r.reached",
        "WHERE true",
        "tests/integration/device/test_firmware_rollouts.py",
    ),
    Mutant(
        "a text with U+0000 is refused in telemetry",
        "schemas/telemetry.py",
        "if _BACKSLASH in body and nul.says_nul(body):",
        "if False:",
        f"{UNIT}/schemas/test_nul.py",
    ),
    Mutant(
        "a backslash before u0000 is no U+0000",
        "schemas/nul.py",
        're.compile(rb"(?<!\\\\)(?:\\\\\\\\)*\\\\u0000").search',
        're.compile(rb"\\\\u0000").search',
        f"{UNIT}/schemas/test_nul.py",
    ),
    Mutant(
        "a text with U+0000 is refused in bodies",
        "gateway/api/texts.py",
        "    if nul.says_nul(data):",
        "    if False:",
        "tests/security/test_nul.py::test_no_body_of_an_owner_holds_it",
    ),
    Mutant(
        "a text with U+0000 is refused in queries",
        "gateway/api/texts.py",
        "if nul.NUL in name or nul.NUL in value:",
        "if False:",
        "tests/security/test_nul.py::test_no_call_takes_it_in_path_or_query",
    ),
    Mutant(
        "a licence goes from one state to another as the contract says",
        "schemas/licenses.py",
        'REVOKE = (\n        "pending_remove",\n        {LicenseState.INUSE:',
        'REVOKE = (\n        "pending_remove",\n        {LicenseState.PENDING_ADD:',
        f"{UNIT}/schemas/test_licenses.py",
    ),
    Mutant(
        "a licence is its device's own",
        "gateway/stores/licenses/device_side.py",
        "WHERE id = $1 AND device_id = $2 FOR NO KEY UPDATE",
        "WHERE id = $1 AND $2::uuid IS NOT NULL FOR NO KEY UPDATE",
        "tests/integration/device/test_device_licenses.py::test_a_licence_is_its_devices_own",
    ),
    Mutant(
        "another unit is offered the licences of the one before",
        "gateway/stores/devices/replacement.py",
        "    for event in await licensed.offer_anew(change.connection, device_id, change.moment):\n"
        "        change.record(device_id, event)\n",
        "",
        "tests/integration/organization/test_replacement.py::test_another_unit_takes_over_all_that_the_device_was",
    ),
    Mutant(
        "the unit before is locked out",
        "gateway/stores/devices/replacement.py",
        "previous_key_version = NULL, previous_key_until = NULL, previous_key_good = false,",
        "previous_key_version = key_version, previous_key_until = now() + interval '1 day', previous_key_good = true,",
        "tests/integration/organization/test_replacement.py::test_another_unit_takes_over_all_that_the_device_was",
    ),
    Mutant(
        "only the owner of a device that waits gets its new unit",
        "gateway/stores/devices/replacement.py",
        "AND d.organization_id = r.organization_id AND d.deleted_at IS NULL",
        "AND d.deleted_at IS NULL",
        "tests/integration/organization/test_replacement.py::test_a_wish_ends_with_who_had_it",
    ),
    Mutant(
        "a unit comes back only once its owner confirmed it",
        "gateway/stores/devices/replacement.py",
        'if row["return_confirmed_until"] is not None and row["return_confirmed_until"] > change.moment:',
        'if row["return_confirmed_until"] is not None:',
        "tests/integration/organization/test_replacement.py"
        "::test_a_return_is_confirmed_within_a_day_and_used_within_another",
    ),
    Mutant(
        "a suspended device and a space in maintenance open no incidents",
        "schemas/incidents.py",
        "WHERE d.deleted_at IS NULL AND NOT d.incidents_suspended AND s.maintenance IS NOT TRUE",
        "WHERE d.deleted_at IS NULL AND NOT d.incidents_suspended",
        "tests/integration/device/test_device_incidents.py::test_a_space_in_maintenance_opens_no_incidents",
    ),
    Mutant(
        "who is heard of again closes what the sweep opened, and nobody else's",
        "schemas/incidents.py",
        "WHERE i.closed_at IS NULL AND i.kind = ANY($2::text[]) ORDER BY i.id FOR NO KEY UPDATE OF i",
        "WHERE i.closed_at IS NULL AND $2::text[] IS NOT NULL ORDER BY i.id FOR NO KEY UPDATE OF i",
        f"{WORKERS}/test_offline.py::test_what_somebody_else_opened_of_that_issue_stays_open",
    ),
    Mutant(
        "an outage of ours is not the devices'",
        "workers/offline.py",
        'if row["last_seen_at"] < until - threshold and judged.heard_for >= threshold:',
        'if row["last_seen_at"] < until - threshold:',
        f"{WORKERS}/test_offline.py::test_a_frozen_edge_makes_nobody_offline",
    ),
    Mutant(
        "what the log drops unread is in the ledger",
        "workers/unsent.py",
        "accepted = c.accepted + u.events, expired = c.expired + u.events,",
        "accepted = c.accepted, expired = c.expired,",
        f"{WORKERS}/test_upkeep.py::test_a_partition_that_a_connector_owes_events_of_is_kept_for_some_days_more",
    ),
    Mutant(
        "whoever has no look-up under way begins one",
        "workers/lookup_turns.py",
        "(UNANSWERED_MAX if not self._unanswered[tenant] else SHARED_MAX)",
        "SHARED_MAX",
        f"{UNIT}/workers/test_names.py::test_whoever_has_no_look_up_under_way_begins_one",
    ),
    Mutant(
        "a tenant has few look-ups under way",
        "workers/lookup_turns.py",
        "if self._under_way[tenant] >= OF_TENANT:",
        "if self._under_way[tenant] >= 1e9:",
        f"{UNIT}/workers/test_names.py::test_silent_names_of_a_tenant_hold_few_threads_and_nobody_else_up",
    ),
)
