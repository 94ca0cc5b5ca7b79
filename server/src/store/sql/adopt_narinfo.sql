-- $1 its row, $2 store path, $3 NarHash, $4 its NAR, $5 text, $6 all that it refers to, its NAR included
WITH stale AS (
  -- of an older composition that was found to be void
  DELETE FROM refs r WHERE r.src = $1 AND r.dst <> ALL ($6::bigint[]) RETURNING r.dst
), noted AS (
  INSERT INTO candidates SELECT DISTINCT dst FROM stale ORDER BY 1 ON CONFLICT DO NOTHING
), composed AS (
  INSERT INTO narinfos (object_id, store_path, nar_hash, nar_id, narinfo) VALUES ($1, $2, $3, $4, $5)
), referring AS (
  INSERT INTO refs (src, dst) SELECT DISTINCT $1::bigint, unnest($6::bigint[]) ON CONFLICT DO NOTHING
), pushed AS (
  INSERT INTO closures (object_id, pushed_at) VALUES ($1, now())
  ON CONFLICT (object_id) DO UPDATE SET pushed_at = now(), paths = NULL, bytes = NULL
)
UPDATE objects SET stored_at = now(), condemned_at = NULL, is_external = false WHERE id = $1
