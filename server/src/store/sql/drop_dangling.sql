-- $1 ids that no object has, or of objects with a reference to one: whatever names them goes, and what that
-- held may be garbage now
WITH gone AS MATERIALIZED (
  SELECT i.id FROM (SELECT DISTINCT unnest($1::bigint[]) AS id) i
  WHERE (SELECT true FROM objects o WHERE o.id = i.id LIMIT 1) IS NULL
), c AS (DELETE FROM closures WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), h AS (DELETE FROM holds WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), u AS (DELETE FROM upload_paths WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), n AS (DELETE FROM narinfos WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), d AS (DELETE FROM candidates WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), p AS (UPDATE pins SET object_id = NULL WHERE object_id = ANY (ARRAY(SELECT id FROM gone))
), r AS (
  DELETE FROM refs r
  WHERE r.ctid = ANY (ARRAY(
    SELECT r.ctid FROM gone g CROSS JOIN LATERAL (SELECT r.ctid FROM refs r WHERE r.src = g.id) r
    UNION
    SELECT r.ctid FROM unnest($1::bigint[]) AS i(id)
    CROSS JOIN LATERAL (SELECT r.ctid, r.dst FROM refs r WHERE r.src = i.id) r
    WHERE (SELECT true FROM objects o WHERE o.id = r.dst LIMIT 1) IS NULL))
  RETURNING r.dst
)
INSERT INTO candidates SELECT DISTINCT dst FROM r
WHERE (SELECT true FROM objects o WHERE o.id = r.dst LIMIT 1)
ORDER BY 1 ON CONFLICT DO NOTHING
