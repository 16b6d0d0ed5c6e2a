-- Who may claim what: models that all may see, partners whose models an owner may see, and children that come along.

ALTER TABLE device_models ADD COLUMN public boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN device_models.public IS 'Whether every organization may claim its devices; set by the operator.';

-- Models whose devices others claimed before go on as they did.
UPDATE device_models m SET public = true
 WHERE EXISTS (SELECT FROM devices d WHERE d.model_id = m.id AND d.organization_id <> m.organization_id);

CREATE TABLE organization_partners (
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    partner_id      uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, partner_id)
);
CREATE INDEX ON organization_partners (partner_id);
COMMENT ON TABLE organization_partners IS 'Vendors that an organization, as owner of devices, trusts: it may claim devices of all their models.';

ALTER TABLE devices ADD COLUMN vouched_for boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN devices.vouched_for IS 'Its parent registered it, so it is claimed with its parent. Who names a parent by itself is not.';
UPDATE devices SET vouched_for = true WHERE parent_id IS NOT NULL AND hardware_key_id IS NULL AND deleted_at IS NULL;

-- No short code begins with another one, in any case. Of two that do, one that opens no Cloud ID gets a new code.
DO $$
DECLARE
    overlapping uuid;
    code text;
BEGIN
    FOR overlapping IN
        SELECT a.id FROM organizations a
         WHERE NOT EXISTS (SELECT FROM device_models m WHERE m.organization_id = a.id
                              AND m.authentication = 'cloud_id' AND NOT m.emulated)
           AND EXISTS (SELECT FROM organizations b WHERE b.id <> a.id
                          AND (starts_with(lower(b.short_code), lower(a.short_code))
                               OR starts_with(lower(a.short_code), lower(b.short_code))))
         ORDER BY a.created_at DESC, a.id
    LOOP
        LOOP
            code := upper(substr(md5(random()::text), 1, 8));
            EXIT WHEN NOT EXISTS (SELECT FROM organizations b
                                   WHERE starts_with(lower(code), lower(b.short_code))
                                      OR starts_with(lower(b.short_code), lower(code)));
        END LOOP;
        UPDATE organizations SET short_code = code WHERE id = overlapping;
    END LOOP;
END $$;
