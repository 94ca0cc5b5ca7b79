-- $1 name, $2 key of a narinfo, $3 store path: the file that was found is right, if that is a closure
INSERT INTO pins (name, object_id, filed, store_path, created_at, moved_at)
SELECT $1, o.id, o.id, $3, now(), now() FROM objects o
WHERE o.key = $2 AND o.stored_at IS NOT NULL AND o.claimed_at IS NULL
  AND (SELECT true FROM closures c WHERE c.object_id = o.id LIMIT 1)
ON CONFLICT DO NOTHING
