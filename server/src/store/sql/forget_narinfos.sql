-- $1 narinfos that nothing but each other refers to: garbage from now on
WITH expired AS (
  DELETE FROM closures WHERE object_id = ANY ($1)
), noted AS (
  INSERT INTO candidates
  SELECT DISTINCT r.dst FROM unnest($1::bigint[]) AS i(id)
  CROSS JOIN LATERAL (SELECT r.dst FROM refs r WHERE r.src = i.id) r
  ORDER BY 1 ON CONFLICT DO NOTHING
)
UPDATE objects SET condemned_at = now() WHERE id = ANY ($1) AND condemned_at IS NULL
