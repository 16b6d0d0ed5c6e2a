-- Firmware rollouts: who is offered a release, and when.
--
--   * A device's part in a rollout is a row of `rollout_devices`, which only the worker that holds the rollout's row
--     moves on. Whatever may be evidence (a version reported, a command's status, a range of the file) makes the part
--     due: triggers set `due_at`, and decide nothing.
--   * `rollout_counts` counts parts by wave and state, written in the transaction that moves them.
--   * `offered_firmware` learns of rollouts: a release that has any is for those whom one of them has reached.

SET LOCAL lock_timeout = '10s';

CREATE TABLE rollouts (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    as_vendor       boolean NOT NULL,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    description     text NOT NULL DEFAULT '',
    file_id         uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    model_id        uuid NOT NULL REFERENCES device_models ON DELETE CASCADE,
    channel         text NOT NULL CHECK (channel IN ('reply', 'command')),
    downgrade       boolean NOT NULL DEFAULT false,
    source_id       uuid REFERENCES rollouts ON DELETE SET NULL,
    dynamic         boolean NOT NULL,
    max_per_minute  integer CHECK (max_per_minute >= 1),
    window_opens    time,
    window_closes   time,
    download_before boolean NOT NULL DEFAULT false,
    report_timeout_s integer NOT NULL DEFAULT 86400 CHECK (report_timeout_s BETWEEN 60 AND 7776000),
    grace_s         integer NOT NULL DEFAULT 600 CHECK (grace_s BETWEEN 0 AND 604800),
    retries         integer NOT NULL DEFAULT 1 CHECK (retries BETWEEN 0 AND 10),
    needs_approval  boolean NOT NULL DEFAULT false,
    starts_at       timestamptz,
    status          text NOT NULL DEFAULT 'draft' CHECK (status IN
                        ('draft', 'waiting_for_approval', 'scheduled', 'running', 'paused', 'finished', 'aborted')),
    reason          text,
    wave            smallint NOT NULL DEFAULT 0,
    created_by      text NOT NULL,
    started_by      text,
    approved_by     text,
    created_at      timestamptz NOT NULL,
    started_at      timestamptz,
    ended_at        timestamptz,
    enrolled_after  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    enrolled        boolean NOT NULL DEFAULT false,
    settled_at      timestamptz,
    CHECK ((window_opens IS NULL) = (window_closes IS NULL)),
    CHECK (window_opens <> window_closes)
);
CREATE INDEX rollouts_organization ON rollouts (organization_id, as_vendor, id);
CREATE INDEX rollouts_file ON rollouts (file_id);
CREATE INDEX rollouts_model ON rollouts (model_id);
CREATE INDEX rollouts_source ON rollouts (source_id) WHERE source_id IS NOT NULL;
CREATE INDEX rollouts_unsettled ON rollouts (id) WHERE settled_at IS NULL;
COMMENT ON COLUMN rollouts.as_vendor IS 'Of the vendor of the model, for all its devices; else of an owner, for its own.';
COMMENT ON COLUMN rollouts.downgrade IS 'Its firmware may be older than what devices have: it takes them back.';
COMMENT ON COLUMN rollouts.source_id IS 'The rollout whose gate made this one, to take its devices back.';
COMMENT ON COLUMN rollouts.wave IS 'The wave that is under way; 0 before the first.';
COMMENT ON COLUMN rollouts.enrolled_after IS 'The last device that was looked at while its devices are entered, in the order of their ids.';
COMMENT ON COLUMN rollouts.enrolled IS 'All devices were looked at once.';
COMMENT ON COLUMN rollouts.settled_at IS 'It has ended and every part has its outcome: there is nothing left to do.';

CREATE TABLE rollout_waves (
    rollout_id     uuid NOT NULL REFERENCES rollouts ON DELETE CASCADE,
    number         smallint NOT NULL CHECK (number >= 1),
    percent        double precision CHECK (percent > 0 AND percent <= 100),
    count          integer CHECK (count >= 1),
    labels         json,
    space_id       uuid REFERENCES spaces ON DELETE SET NULL,
    starts_at      timestamptz,
    soak_s         integer NOT NULL DEFAULT 0 CHECK (soak_s BETWEEN 0 AND 7776000),
    min_reported   integer NOT NULL DEFAULT 0 CHECK (min_reported >= 0),
    failed_percent double precision CHECK (failed_percent > 0 AND failed_percent <= 100),
    failed_count   integer CHECK (failed_count >= 1),
    on_failure     text NOT NULL DEFAULT 'pause' CHECK (on_failure IN ('pause', 'abort', 'roll_back')),
    back_to_id     uuid REFERENCES files ON DELETE SET NULL,
    on_success     text NOT NULL DEFAULT 'next' CHECK (on_success IN ('next', 'wait')),
    status         text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'open', 'soaking', 'waiting', 'passed')),
    filled         boolean NOT NULL DEFAULT false,
    fired_at       timestamptz,
    soaking_since  timestamptz,
    PRIMARY KEY (rollout_id, number)
);
CREATE INDEX rollout_waves_space ON rollout_waves (space_id) WHERE space_id IS NOT NULL;
CREATE INDEX rollout_waves_back_to ON rollout_waves (back_to_id) WHERE back_to_id IS NOT NULL;
COMMENT ON COLUMN rollout_waves.percent IS 'Up to which share of the rollout''s devices, those of earlier waves included.';
COMMENT ON COLUMN rollout_waves.filled IS 'All devices that are of this wave have been put into it.';
COMMENT ON COLUMN rollout_waves.fired_at IS 'When its gate fired, which it does once.';

CREATE TABLE rollout_devices (
    rollout_id      uuid NOT NULL REFERENCES rollouts ON DELETE CASCADE,
    device_id       uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    position        bigint NOT NULL,
    wave            smallint NOT NULL DEFAULT 0,
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN
                        ('waiting', 'offered', 'downloading', 'installing',
                         'succeeded', 'failed', 'timed_out', 'skipped', 'cancelled')),
    reason          text,
    attempts        integer NOT NULL DEFAULT 0,
    offered_at      timestamptz,
    last_offered_at timestamptz,
    fetch_began_at  timestamptz,
    fetched_at      timestamptz,
    begun           boolean NOT NULL DEFAULT false,
    command_id      uuid,
    due_at          timestamptz,
    ended_at        timestamptz,
    PRIMARY KEY (rollout_id, device_id)
);
CREATE INDEX rollout_devices_device ON rollout_devices (device_id);
CREATE UNIQUE INDEX rollout_devices_open ON rollout_devices (device_id) WHERE state IN ('offered', 'downloading', 'installing');
CREATE INDEX rollout_devices_due ON rollout_devices (rollout_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX rollout_devices_turn ON rollout_devices (rollout_id, state, wave, position);
CREATE INDEX rollout_devices_offered ON rollout_devices (rollout_id, last_offered_at) WHERE last_offered_at IS NOT NULL;
COMMENT ON COLUMN rollout_devices.position IS 'A hash of device and rollout: its place in the order in which percentages grow.';
COMMENT ON COLUMN rollout_devices.wave IS 'The wave that the device is of, for ever; 0 while it is of none.';
COMMENT ON COLUMN rollout_devices.offered_at IS 'From when this attempt''s timeout runs.';
COMMENT ON COLUMN rollout_devices.due_at IS 'When to look at it; set by triggers to -infinity where there is evidence.';

CREATE TABLE rollout_counts (
    rollout_id uuid NOT NULL REFERENCES rollouts ON DELETE CASCADE,
    wave       smallint NOT NULL,
    state      text NOT NULL,
    devices    bigint NOT NULL,
    begun      bigint NOT NULL,
    PRIMARY KEY (rollout_id, wave, state)
);

CREATE FUNCTION rollout_position(rollout_id uuid, device_id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(md5(rollout_id::text || device_id::text), 8))::bit(32)::bigint
$$;

-- What is evidence ----------------------------------------------------------------------------------------------

ALTER TABLE devices ADD COLUMN firmware_reported_at timestamptz;
COMMENT ON COLUMN devices.firmware_reported_at IS 'When the device last told its firmware version, be it another one or not.';
ALTER TABLE commands ADD COLUMN rollout_id uuid;
COMMENT ON COLUMN commands.rollout_id IS 'The rollout that sent it; handed out only while that runs.';

CREATE FUNCTION devices_are_evidence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rollout_devices p SET due_at = '-infinity'
      FROM rollouts r
     WHERE p.device_id = NEW.id AND p.state IN ('waiting', 'offered', 'downloading', 'installing', 'succeeded')
       AND r.id = p.rollout_id AND r.settled_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER is_evidence AFTER UPDATE OF firmware_version, firmware_reported_at, organization_id, model_id, deleted_at
    ON devices FOR EACH ROW
    WHEN ((OLD.firmware_version, OLD.firmware_reported_at, OLD.organization_id, OLD.model_id, OLD.deleted_at)
          IS DISTINCT FROM (NEW.firmware_version, NEW.firmware_reported_at, NEW.organization_id, NEW.model_id, NEW.deleted_at))
    EXECUTE FUNCTION devices_are_evidence();

CREATE FUNCTION commands_are_evidence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rollout_devices SET due_at = '-infinity'
     WHERE rollout_id = NEW.rollout_id AND device_id = NEW.device_id AND command_id = NEW.id
       AND state IN ('offered', 'downloading', 'installing');
    RETURN NULL;
END $$;
CREATE TRIGGER is_evidence AFTER UPDATE OF status, delivered_at ON commands FOR EACH ROW
    WHEN (NEW.rollout_id IS NOT NULL AND (OLD.status, OLD.delivered_at) IS DISTINCT FROM (NEW.status, NEW.delivered_at))
    EXECUTE FUNCTION commands_are_evidence();

-- Which firmware is a device's ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION offered_firmware(device_id uuid, model_id uuid, organization_id uuid, firmware_version text)
RETURNS TABLE (file_id uuid, version text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT f.id, f.version FROM files f CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE NOT r.downgrade AND (r.status <> 'aborted' OR r.started_at IS NOT NULL)) = 0 AS open_to_all,
               coalesce(bool_or(p.reached), false) AS reached,
               coalesce(bool_or(p.reached AND r.downgrade), false) AS taken_back
          FROM rollouts r LEFT JOIN LATERAL (
              SELECT CASE d.state WHEN 'offered' THEN r.status = 'running' OR d.fetch_began_at IS NOT NULL
                                  WHEN 'succeeded' THEN r.status IN ('running', 'finished')
                                  ELSE d.state IN ('downloading', 'installing') END AS reached
                FROM rollout_devices d WHERE d.rollout_id = r.id AND d.device_id = $1) p ON true
         WHERE r.file_id = f.id AND (r.as_vendor OR r.organization_id = $3)) g
     WHERE f.status = 'released' AND f.file_type = 'firmware' AND f.for_model_id = $2
       AND (f.organization_id IS NULL OR f.organization_id = $3)
       AND CASE WHEN g.taken_back THEN f.version_key <> semver_key($4) COLLATE "C"
                ELSE f.version_key > semver_key($4) COLLATE "C"
                     AND (f.min_version_key IS NULL OR f.min_version_key <= semver_key($4) COLLATE "C")
                     AND (g.open_to_all OR g.reached) END
     ORDER BY g.taken_back DESC, f.version_key DESC, f.released_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION offered_firmware IS 'Which firmware is a device''s: the highest released version above its own whose min_version it meets and, where the release has rollouts, one of them has reached it. A rollout that takes devices back goes before.';
