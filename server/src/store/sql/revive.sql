-- $1 condemned objects. Answers one that is being deleted, if any is met: then nothing may be kept.
WITH RECURSIVE r(id) AS (
  SELECT unnest($1::bigint[])
  UNION
  SELECT f.dst FROM r JOIN refs f ON f.src = r.id JOIN objects o ON o.id = f.dst
  WHERE o.condemned_at IS NOT NULL
), locked AS MATERIALIZED (
  SELECT o.id, o.key, o.claimed_at FROM r JOIN objects o ON o.id = r.id
  ORDER BY o.id FOR NO KEY UPDATE OF o
), revived AS (
  UPDATE objects o SET condemned_at = NULL FROM locked l
  WHERE o.id = l.id AND l.claimed_at IS NULL AND o.condemned_at IS NOT NULL
)
SELECT key FROM locked WHERE claimed_at IS NOT NULL LIMIT 1
