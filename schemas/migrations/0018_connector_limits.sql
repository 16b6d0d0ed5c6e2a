-- How many requests at once a data connector may have under way, where its people set that.

SET LOCAL lock_timeout = '10s';

ALTER TABLE data_connectors ADD COLUMN in_flight_max integer CHECK (in_flight_max BETWEEN 1 AND 1000);
COMMENT ON COLUMN data_connectors.in_flight_max IS 'Most requests under way at once; null: as many as its receiver is found to take.';

DROP TRIGGER follow_change ON data_connectors;
CREATE TRIGGER follow_change
    BEFORE UPDATE OF status, event_types, labels, url, headers, secret, previous_secret, previous_secret_until,
                     asymmetric_signature, standard_webhooks, retry_window_s, in_flight_max ON data_connectors
    FOR EACH ROW EXECUTE FUNCTION data_connectors_follow_change();
DROP TRIGGER tell ON data_connectors;
CREATE TRIGGER tell
    AFTER INSERT OR DELETE OR UPDATE OF status, event_types, labels, url, headers, secret, previous_secret,
                     previous_secret_until, asymmetric_signature, standard_webhooks, retry_window_s, in_flight_max
    ON data_connectors FOR EACH ROW EXECUTE FUNCTION data_connectors_tell();
