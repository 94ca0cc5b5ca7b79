-- $1 an id, $2 how many, $3 seconds: the next above it of what was signed anew may be written from now on. What is
-- not in the bucket any more, or is being deleted, needs no sending: whoever publishes it sends what is recorded.
-- That somebody may be writing one at this moment does not matter: it can only be the text that is recorded.
WITH q AS MATERIALIZED (
  SELECT r.object_id AS id FROM resigned r WHERE r.object_id > $1 ORDER BY r.object_id LIMIT $2
), locked AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY (ARRAY(SELECT id FROM q)) AND o.stored_at IS NOT NULL AND o.claimed_at IS NULL
  ORDER BY o.id FOR NO KEY UPDATE
), needless AS (
  DELETE FROM resigned r
  WHERE r.object_id = ANY (ARRAY(SELECT id FROM q)) AND r.object_id <> ALL (ARRAY(SELECT id FROM locked))
), t AS MATERIALIZED (SELECT clock_timestamp() AS at
), fenced AS (
  UPDATE objects o
  SET writable_until = greatest(o.writable_until, t.at + make_interval(secs => $3))
  FROM t WHERE o.id = ANY (ARRAY(SELECT id FROM locked))
  RETURNING o.id, extract(epoch FROM t.at)::float8 AS at
)
SELECT q.id, f.at FROM q LEFT JOIN fenced f ON f.id = q.id ORDER BY q.id
