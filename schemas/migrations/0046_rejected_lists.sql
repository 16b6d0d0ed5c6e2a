-- A person may refuse a vendor's list that is held: what it would take away stays, however often the list comes.
ALTER TABLE cloud_connectors ADD COLUMN rejected_digest text;
COMMENT ON COLUMN cloud_connectors.rejected_digest IS 'Of what a person refused to have taken away: such lists are not applied by themselves.';
COMMENT ON COLUMN cloud_runs.details IS 'Items skipped and why; for a preview and for a list that is held also the first devices of each change.';
