-- $1 composed narinfos or attachments, $2 seconds
-- What another commit has in hand at this moment is its to send: if that one fails, it is here again.
-- The time is the one that the URLs are signed with: somebody may write until exactly then.
WITH u AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY ($1) AND o.stored_at IS NULL
  ORDER BY o.id
  FOR NO KEY UPDATE OF o SKIP LOCKED
), t AS MATERIALIZED (SELECT clock_timestamp() AS at
), fenced AS (
  UPDATE objects o
  SET writable_until = greatest(o.writable_until, t.at + make_interval(secs => $2))
  FROM t WHERE o.id = ANY (ARRAY(SELECT id FROM u))
  RETURNING o.id, extract(epoch FROM t.at)::float8 AS at
)
SELECT f.id, f.at FROM fenced f ORDER BY f.id
