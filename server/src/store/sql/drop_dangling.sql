-- $1 ids: whatever names those that no object has goes, and what that held may be garbage now
WITH gone AS MATERIALIZED (
  SELECT i.id FROM (SELECT DISTINCT unnest($1::bigint[]) AS id) i
  WHERE (SELECT true FROM objects o WHERE o.id = i.id LIMIT 1) IS NULL
), c AS (DELETE FROM closures WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), h AS (DELETE FROM holds WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), u AS (DELETE FROM upload_paths WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), x AS (DELETE FROM upload_attachments WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), t AS (DELETE FROM attachments WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), n AS (DELETE FROM narinfos WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), d AS (DELETE FROM candidates WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), p AS (
  UPDATE pins SET object_id = NULL, store_path = NULL
  WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), r AS (
  DELETE FROM refs r WHERE r.src = ANY (ARRAY(SELECT id FROM gone)) RETURNING r.dst
)
INSERT INTO candidates SELECT DISTINCT dst FROM r
WHERE (SELECT true FROM objects o WHERE o.id = r.dst LIMIT 1)
ORDER BY 1 ON CONFLICT DO NOTHING
