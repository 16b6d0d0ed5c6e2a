-- Serial numbers lose the white space and line ends around them, as all that come from now on do (schemas/serials.py).
-- One that another device of its model has already, in its trimmed form, stays: two units cannot become one here.

UPDATE devices d SET sn = t.sn
  FROM (SELECT id, model_id, btrim(sn, E' \t\n\r\v\f') AS sn,
               row_number() OVER (PARTITION BY model_id, btrim(sn, E' \t\n\r\v\f') ORDER BY registered_at, id) AS place
          FROM devices WHERE deleted_at IS NULL AND sn <> btrim(sn, E' \t\n\r\v\f')) t
 WHERE d.id = t.id AND t.place = 1 AND t.sn <> ''
   AND NOT EXISTS (SELECT FROM devices o WHERE o.model_id = t.model_id AND o.sn = t.sn AND o.deleted_at IS NULL);
