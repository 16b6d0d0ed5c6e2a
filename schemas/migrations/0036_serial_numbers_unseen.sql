-- Serial numbers lose all that cannot be seen around them, as those that come from now on do (schemas/serials.py):
-- also control characters with which scanners frame what they read. As migration 6 did, one that another device of its
-- model has already in that form stays.

WITH unseen AS (
    SELECT string_agg(chr(code), '') AS characters
      FROM (VALUES (1, 32), (127, 160), (173, 173), (5760, 5760), (6158, 6158), (8192, 8207), (8232, 8239),
                   (8287, 8303), (12288, 12288), (65279, 65279)) AS spans (first, last)
     CROSS JOIN LATERAL generate_series(first, last) AS code
), trimmed AS (
    SELECT id, model_id, btrim(sn, characters) AS sn,
           row_number() OVER (PARTITION BY model_id, btrim(sn, characters) ORDER BY registered_at, id) AS place
      FROM devices CROSS JOIN unseen
     WHERE deleted_at IS NULL AND sn <> btrim(sn, characters)
)
UPDATE devices d SET sn = t.sn
  FROM trimmed t
 WHERE d.id = t.id AND t.place = 1 AND t.sn <> ''
   AND NOT EXISTS (SELECT FROM devices o WHERE o.model_id = t.model_id AND o.sn = t.sn AND o.deleted_at IS NULL);
