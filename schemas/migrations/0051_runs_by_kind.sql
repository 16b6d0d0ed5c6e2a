-- The runs of a data connector that are of one kind are read without those of the others: an inventory runs seldom, and
-- telemetry very often. Runs of a connector are deleted beyond a number, so the table is small enough to wait for.

SET LOCAL lock_timeout = '10s';

CREATE INDEX cloud_runs_kind ON cloud_runs (connector_id, kind, id);
