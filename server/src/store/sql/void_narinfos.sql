-- $1 narinfos, $2 seconds: they are not published any more, and nobody composes them anew before their
-- objects have been deleted. What they referred to may be garbage now.
WITH forgotten AS (
  DELETE FROM narinfos n WHERE n.object_id = ANY ($1)
), unlinked AS (
  DELETE FROM refs r WHERE r.src = ANY ($1) RETURNING r.dst
), noted AS (
  INSERT INTO candidates
  SELECT DISTINCT id FROM (SELECT dst AS id FROM unlinked UNION SELECT unnest($1::bigint[])) c
  ORDER BY 1 ON CONFLICT DO NOTHING
), t AS MATERIALIZED (SELECT clock_timestamp() AS at)
UPDATE objects o
SET stored_at = NULL,
    writable_until = greatest(o.writable_until, t.at + make_interval(secs => $2))
FROM t WHERE o.id = ANY ($1) AND o.claimed_at IS NULL
RETURNING o.id, o.key, extract(epoch FROM t.at)::float8 AS at
