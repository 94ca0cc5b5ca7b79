-- $1 upload, $2 narinfos, $3 their NARs, $4 their texts
WITH c AS MATERIALIZED (
  SELECT c.id, c.nar_id, c.narinfo, p.store_path, p.nar_hash, p.refs
  FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS c(id, nar_id, narinfo)
  CROSS JOIN LATERAL (
    SELECT * FROM upload_paths p WHERE p.upload = $1 AND p.object_id = c.id LIMIT 1) p
), composed AS (
  INSERT INTO narinfos (object_id, store_path, nar_hash, nar_id, narinfo)
  SELECT id, store_path, nar_hash, nar_id, narinfo FROM c
), stale AS (
  -- of an older composition that was found to be void
  DELETE FROM refs r WHERE r.ctid = ANY (ARRAY(
    SELECT r.ctid FROM c CROSS JOIN LATERAL (SELECT r.ctid, r.dst FROM refs r WHERE r.src = c.id) r
    WHERE r.dst <> ALL (c.refs) AND r.dst <> c.nar_id
      AND (SELECT o.kind FROM objects o WHERE o.id = r.dst LIMIT 1) = 1))
  RETURNING r.dst
), noted AS (
  INSERT INTO candidates SELECT DISTINCT dst FROM stale ORDER BY 1 ON CONFLICT DO NOTHING
), referring AS (
  INSERT INTO refs (src, dst)
  SELECT c.id, r.id FROM c CROSS JOIN LATERAL unnest(c.refs) AS r(id)
  UNION
  SELECT c.id, c.nar_id FROM c
  ON CONFLICT DO NOTHING
)
-- A NAR that was garbage until now has a referrer again. And nobody can write the narinfo: what an older
-- composition of it was sent with is no news of this one.
UPDATE objects o
SET condemned_at = NULL, is_external = false,
    writable_until = CASE WHEN o.kind = 1 THEN NULL ELSE o.writable_until END
WHERE (o.id = ANY ($3) AND o.condemned_at IS NOT NULL)
   OR (o.id = ANY ($2) AND (o.writable_until IS NOT NULL OR o.is_external))
