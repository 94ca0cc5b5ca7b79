-- $1 narinfos: they, and all published ones that refer to them, directly or not
WITH RECURSIVE up(id) AS (
  SELECT unnest($1::bigint[])
  UNION
  SELECT r.src FROM up JOIN refs r ON r.dst = up.id JOIN objects s ON s.id = r.src
  WHERE s.kind = 1 AND s.stored_at IS NOT NULL
)
SELECT id FROM up
