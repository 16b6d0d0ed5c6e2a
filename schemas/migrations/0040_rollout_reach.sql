-- Whether a rollout has reached a device is one rule: for what it is told of, and for what it may fetch. A device that was
-- handed its command has begun, and may fetch what that names, whatever becomes of the rollout.

CREATE FUNCTION rollout_reach(file_id uuid, device_id uuid, organization_id uuid)
RETURNS TABLE (open_to_all boolean, reached boolean, taken_back boolean) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT count(*) FILTER (WHERE NOT r.downgrade AND (r.status <> 'aborted' OR r.started_at IS NOT NULL)) = 0,
           coalesce(bool_or(p.reached), false),
           coalesce(bool_or(p.reached AND r.downgrade), false)
      FROM rollouts r LEFT JOIN LATERAL (
          SELECT CASE d.state WHEN 'offered' THEN r.status = 'running' OR d.fetch_began_at IS NOT NULL OR EXISTS (
                                   SELECT FROM commands c WHERE c.id = d.command_id AND c.delivered_at IS NOT NULL)
                              WHEN 'succeeded' THEN r.status IN ('running', 'finished')
                              ELSE d.state IN ('downloading', 'installing') END AS reached
            FROM rollout_devices d WHERE d.rollout_id = r.id AND d.device_id = $2) p ON true
     WHERE r.file_id = $1 AND (r.as_vendor OR r.organization_id = $3)
$$;
COMMENT ON FUNCTION rollout_reach IS 'Whether a release is open to all devices of an owner, for it has no rollout; or else whether one has reached a device.';

CREATE OR REPLACE FUNCTION offered_firmware(device_id uuid, model_id uuid, organization_id uuid, firmware_version text)
RETURNS TABLE (file_id uuid, version text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT f.id, f.version FROM files f CROSS JOIN LATERAL rollout_reach(f.id, $1, $3) g
     WHERE f.status = 'released' AND f.file_type = 'firmware' AND f.for_model_id = $2
       AND (f.organization_id IS NULL OR f.organization_id = $3)
       AND CASE WHEN g.taken_back THEN f.version_key <> semver_key($4) COLLATE "C"
                ELSE f.version_key > semver_key($4) COLLATE "C"
                     AND (f.min_version_key IS NULL OR f.min_version_key <= semver_key($4) COLLATE "C")
                     AND (g.open_to_all OR g.reached) END
     ORDER BY g.taken_back DESC, f.version_key DESC, f.released_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION offered_firmware IS 'Which firmware is a device''s: the highest released version above its own whose min_version it meets and, where the release has rollouts, one of them has reached it. A rollout that takes devices back goes before.';
