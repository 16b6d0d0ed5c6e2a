-- Incidents of three kinds, whose incidents they are, tickets, notes, and the rules that open incidents.

ALTER TABLE devices ADD COLUMN incidents_suspended boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN devices.incidents_suspended IS 'No incident of this device is opened: its owner or the device itself said so.';

-- Rules ---------------------------------------------------------------------------------------------------------

CREATE TABLE incident_rules (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    as_vendor       boolean NOT NULL,
    model_id        uuid REFERENCES device_models ON DELETE CASCADE,
    project_id      uuid REFERENCES projects ON DELETE CASCADE,
    space_id        uuid REFERENCES spaces ON DELETE CASCADE,
    telemetry_key   text NOT NULL,
    comparison      text NOT NULL CHECK (comparison IN ('gt', 'ge', 'lt', 'le', 'eq', 'ne')),
    value           json NOT NULL,
    duration_s      integer NOT NULL DEFAULT 0 CHECK (duration_s BETWEEN 0 AND 2592000),
    hysteresis      double precision NOT NULL DEFAULT 0 CHECK (hysteresis >= 0),
    priority        smallint NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    title           text NOT NULL,
    description     text NOT NULL DEFAULT '',
    enabled         boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(model_id, project_id, space_id) = 1),
    CHECK (model_id IS NOT NULL OR NOT as_vendor)
);
CREATE INDEX incident_rules_organization ON incident_rules (organization_id, as_vendor, id);
CREATE INDEX incident_rules_model ON incident_rules (model_id) WHERE model_id IS NOT NULL;
CREATE INDEX incident_rules_project ON incident_rules (project_id) WHERE project_id IS NOT NULL;
CREATE INDEX incident_rules_space ON incident_rules (space_id) WHERE space_id IS NOT NULL;
COMMENT ON TABLE incident_rules IS 'A telemetry value beyond which devices have an incident; evaluated by the flusher.';
COMMENT ON COLUMN incident_rules.as_vendor IS 'It holds for all devices of the model, whoever owns them; else for those of the organization.';

CREATE TABLE incident_rules_revision (
    id       smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    revision bigint NOT NULL DEFAULT 0
);
INSERT INTO incident_rules_revision DEFAULT VALUES;
COMMENT ON TABLE incident_rules_revision IS 'Grows with every change of a rule, or of the tree of spaces that rules hold in: flushers then read the rules anew.';

CREATE FUNCTION count_rule_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE incident_rules_revision SET revision = revision + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER incident_rules_changed AFTER INSERT OR UPDATE OR DELETE ON incident_rules
    FOR EACH STATEMENT EXECUTE FUNCTION count_rule_changes();

CREATE FUNCTION count_space_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM incident_rules WHERE space_id IS NOT NULL) THEN
        UPDATE incident_rules_revision SET revision = revision + 1;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER spaces_moved_below_rules AFTER INSERT OR UPDATE OF parent_id ON spaces
    FOR EACH STATEMENT EXECUTE FUNCTION count_space_moves();

ALTER TABLE device_state ADD COLUMN rule_states json;
COMMENT ON COLUMN device_state.rule_states IS 'Of each rule that is or was at work on the device, how far it is (see schemas.rule_evaluation).';

-- Incidents -----------------------------------------------------------------------------------------------------

ALTER TABLE incidents
    ADD COLUMN kind text NOT NULL DEFAULT 'rule',
    ADD COLUMN organization_id uuid,
    ADD COLUMN vendor_id uuid,
    ADD COLUMN assignee text,
    ADD COLUMN comment text,
    ADD COLUMN rule_id uuid,
    ADD COLUMN opened_value json,
    ADD COLUMN closed_value json,
    ADD CONSTRAINT incidents_kind CHECK (kind IN ('device', 'user', 'rule')) NOT VALID;
COMMENT ON COLUMN incidents.organization_id IS 'Whose device it was when the incident was closed, or is; null while nobody claimed it. Kept by triggers.';
COMMENT ON COLUMN incidents.vendor_id IS 'The organization that made the model of the device.';
COMMENT ON COLUMN incidents.rule_id IS 'The rule that opened it, which may be gone; null for the one about being offline.';

CREATE FUNCTION tenants_of_incident() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT d.organization_id, m.organization_id INTO NEW.organization_id, NEW.vendor_id
      FROM devices d JOIN device_models m ON m.id = d.model_id WHERE d.id = NEW.device_id;
    RETURN NEW;
END $$;
CREATE TRIGGER incidents_of_tenants BEFORE INSERT ON incidents
    FOR EACH ROW EXECUTE FUNCTION tenants_of_incident();

CREATE FUNCTION open_incidents_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE incidents SET organization_id = NEW.organization_id WHERE device_id = NEW.id AND closed_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER devices_owner_of_incidents AFTER UPDATE OF organization_id ON devices
    FOR EACH ROW WHEN (OLD.organization_id IS DISTINCT FROM NEW.organization_id)
    EXECUTE FUNCTION open_incidents_follow();

-- Tickets and notes ---------------------------------------------------------------------------------------------

CREATE TABLE tickets (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    vendor_id       uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    device_id       uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    incident_id     uuid REFERENCES incidents ON DELETE SET NULL,
    title           text NOT NULL,
    description     text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    resolved_at     timestamptz
);
CREATE INDEX tickets_organization ON tickets (organization_id, id) WHERE resolved_at IS NULL;
CREATE INDEX tickets_vendor ON tickets (vendor_id, id) WHERE resolved_at IS NULL;
CREATE INDEX tickets_device ON tickets (device_id);
CREATE UNIQUE INDEX tickets_incident ON tickets (incident_id) WHERE incident_id IS NOT NULL AND resolved_at IS NULL;
CREATE INDEX tickets_of_incidents ON tickets (incident_id) WHERE incident_id IS NOT NULL;
CREATE INDEX tickets_ended ON tickets (resolved_at) WHERE resolved_at IS NOT NULL;
COMMENT ON TABLE tickets IS 'What the owner of a device asks the maker of its model, and what they say to each other.';

CREATE TABLE ticket_comments (
    id         uuid PRIMARY KEY,
    ticket_id  uuid NOT NULL REFERENCES tickets ON DELETE CASCADE,
    text       text NOT NULL,
    system     boolean NOT NULL,
    author     text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX ticket_comments_ticket ON ticket_comments (ticket_id, id);
COMMENT ON COLUMN ticket_comments.system IS 'It tells what was done to the ticket; nobody wrote it.';

CREATE TABLE notes (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    device_id       uuid REFERENCES devices ON DELETE CASCADE,
    space_id        uuid REFERENCES spaces ON DELETE CASCADE,
    content         text NOT NULL,
    author          text NOT NULL,
    created_at      timestamptz NOT NULL,
    CHECK (num_nonnulls(device_id, space_id) = 1)
);
CREATE INDEX notes_device ON notes (device_id, id) WHERE device_id IS NOT NULL;
CREATE INDEX notes_space ON notes (space_id, id) WHERE space_id IS NOT NULL;
CREATE INDEX notes_of_devices ON notes (organization_id, id) WHERE device_id IS NOT NULL;
COMMENT ON TABLE notes IS 'What an owner wrote down about a device or a space; another owner of the device does not see it.';
