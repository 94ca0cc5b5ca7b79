-- $1 name, $2 closure, $3 its base name, $4 another closure that the file may name, $5 seconds
-- Nobody else changes the file until then. The time is the one that the request is signed with.
WITH t AS MATERIALIZED (SELECT clock_timestamp() AS at)
UPDATE pins p
SET object_id = $2, store_path = $3, filed = $4,
    moved_at = CASE WHEN p.object_id = $2 THEN p.moved_at ELSE t.at END,
    writing_until = t.at + make_interval(secs => $5)
FROM t WHERE p.name = $1
RETURNING extract(epoch FROM t.at)::float8 AS at, p.writing_until, p.moved_at
