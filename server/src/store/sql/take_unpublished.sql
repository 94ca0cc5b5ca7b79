-- $1 upload, $2 how many, $3 seconds
WITH u AS MATERIALIZED (
  SELECT o.id FROM upload_paths p JOIN objects o ON o.id = p.object_id
  WHERE p.upload = $1 AND o.stored_at IS NULL
    AND (SELECT true FROM narinfos c WHERE c.object_id = o.id LIMIT 1)
  ORDER BY o.id LIMIT $2
  FOR NO KEY UPDATE OF o
), fenced AS (
  UPDATE objects o
  SET writable_until = greatest(o.writable_until, now() + make_interval(secs => $3))
  FROM u WHERE o.id = u.id
  RETURNING o.id, o.key
)
SELECT f.id, f.key, n.narinfo FROM fenced f JOIN narinfos n ON n.object_id = f.id ORDER BY f.id
