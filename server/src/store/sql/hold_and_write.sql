-- $1 upload, $2 objects, $3 seconds for each. Nothing can be written for 0 seconds: only held.
WITH w AS MATERIALIZED (
  SELECT * FROM unnest($2::bigint[], $3::float8[]) AS w(id, seconds)
), held AS (
  INSERT INTO holds (upload, object_id) SELECT $1, id FROM w ORDER BY id ON CONFLICT DO NOTHING
)
UPDATE objects o
SET writable_until = greatest(o.writable_until, now() + make_interval(secs => w.seconds)),
    condemned_at = NULL
FROM w WHERE o.id = w.id AND w.seconds > 0
