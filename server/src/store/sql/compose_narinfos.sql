-- $1 upload, $2 narinfos, $3 their NARs, $4 their texts
WITH c AS MATERIALIZED (
  SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS c(id, nar_id, narinfo)
), composed AS (
  INSERT INTO narinfos (object_id, store_path, nar_hash, nar_id, narinfo)
  SELECT c.id, p.store_path, p.nar_hash, c.nar_id, c.narinfo
  FROM c JOIN upload_paths p ON p.upload = $1 AND p.object_id = c.id
), referring AS (
  INSERT INTO refs (src, dst)
  SELECT c.id, r.id FROM c JOIN upload_paths p ON p.upload = $1 AND p.object_id = c.id
  CROSS JOIN LATERAL unnest(p.refs) AS r(id)
  UNION
  SELECT c.id, c.nar_id FROM c
  ON CONFLICT DO NOTHING
)
-- a NAR that was garbage until now has a referrer again
UPDATE objects n SET condemned_at = NULL
FROM c WHERE n.id = c.nar_id AND n.condemned_at IS NOT NULL
