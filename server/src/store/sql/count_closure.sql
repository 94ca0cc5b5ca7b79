-- $1 closure, $2 when it was pushed. Kept only if all of it is in the bucket: what is lost now comes back
-- with a push of another closure, which does not know of this one. Listings and the like are no part of it.
-- LATERAL with OFFSET 0: a plain join is guessed to read all of refs.
WITH RECURSIVE reached(id) AS (
  SELECT $1::bigint
  UNION
  SELECT r.dst FROM reached
  CROSS JOIN LATERAL (SELECT r.dst FROM refs r WHERE r.src = reached.id OFFSET 0) r
), total AS MATERIALIZED (
  SELECT count(*) FILTER (WHERE o.kind = 1 AND o.stored) AS paths,
         coalesce(sum(o.size) FILTER (WHERE o.kind = 2 AND o.stored), 0)::bigint AS bytes,
         coalesce(bool_and(o.kind NOT IN (1, 2) OR coalesce(o.stored, false)), false) AS whole
  FROM reached
  LEFT JOIN LATERAL (
    SELECT o.kind, o.size, o.stored_at IS NOT NULL AS stored FROM objects o
    WHERE o.id = reached.id LIMIT 1) o ON true
), kept AS (
  UPDATE closures c SET paths = t.paths, bytes = t.bytes
  FROM total t WHERE c.object_id = $1 AND c.pushed_at = $2 AND t.whole
)
SELECT paths, bytes FROM total
