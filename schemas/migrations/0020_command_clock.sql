-- When time changes a command is a column, so that the command clock reads what is due and nothing else, at any age of
-- the table: until it is due a scheduled command waits, an undelivered one is kept, a delivered one may run.

SELECT statement FROM (VALUES
    (0, 'ALTER TABLE commands ADD COLUMN IF NOT EXISTS due_at timestamptz'),
    (1, 'CREATE OR REPLACE FUNCTION commands_are_due() RETURNS trigger LANGUAGE plpgsql AS $f$
         BEGIN
             NEW.due_at := CASE
                 WHEN NEW.status = ''scheduled'' THEN NEW.scheduled_at
                 WHEN NEW.status NOT IN (''pending'', ''in_progress'') THEN NULL
                 WHEN NEW.delivered_at IS NOT NULL THEN NEW.delivered_at + make_interval(secs => NEW.timeout_s)
                 WHEN NEW.status = ''pending'' THEN NEW.expires_at END;
             RETURN NEW;
         END $f$'),
    (2, 'CREATE OR REPLACE TRIGGER are_due BEFORE INSERT OR UPDATE ON commands
             FOR EACH ROW EXECUTE FUNCTION commands_are_due()'),
    (3, 'UPDATE commands SET due_at = NULL
          WHERE status IN (''scheduled'', ''pending'', ''in_progress'') AND due_at IS NULL'),
    (4, CASE WHEN EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text = 'commands_due')
             THEN 'DROP INDEX CONCURRENTLY commands_due' ELSE 'SELECT 1' END),
    (5, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS commands_due ON commands (due_at) WHERE due_at IS NOT NULL'),
    (6, 'DROP INDEX CONCURRENTLY IF EXISTS commands_scheduled'),
    (7, 'DROP INDEX CONCURRENTLY IF EXISTS commands_undelivered'),
    (8, 'DROP INDEX CONCURRENTLY IF EXISTS commands_running')) AS steps (step, statement)
 ORDER BY step;

-- In one transaction:

COMMENT ON COLUMN commands.due_at IS 'When time changes it next, kept by trigger: its own time, its expiry or its timeout; null once it has ended.';
