-- $1 upload, $2 objects, $3 seconds for each. Nothing can be written for 0 seconds: only held.
-- Answers the time that the URLs are to be signed with: somebody may write until exactly then, however
-- long this transaction has waited before.
WITH w AS MATERIALIZED (
  SELECT * FROM unnest($2::bigint[], $3::float8[]) AS w(id, seconds)
), t AS MATERIALIZED (SELECT clock_timestamp() AS at
), held AS (
  INSERT INTO holds (upload, object_id) SELECT $1, id FROM w ORDER BY id ON CONFLICT DO NOTHING
), fenced AS (
  UPDATE objects o
  SET writable_until = greatest(o.writable_until, t.at + make_interval(secs => w.seconds)),
      condemned_at = NULL
  FROM t, w WHERE o.id = w.id AND w.seconds > 0
)
SELECT extract(epoch FROM at)::float8 FROM t
