-- $1 keys, $2 kinds, $3 bytes, $4 seconds: objects in the bucket that nobody knows and nobody needs. The
-- collection deletes them, when no URL that was given away for them can be used any more.
WITH added AS (
  INSERT INTO objects (key, kind, size, stored_at, writable_until)
  SELECT k.key, k.kind, k.size, now(), now() + make_interval(secs => $4)
  FROM unnest($1::text[], $2::smallint[], $3::bigint[]) AS k(key, kind, size)
  ORDER BY k.key
  ON CONFLICT (key) DO NOTHING
  RETURNING id
)
INSERT INTO candidates SELECT id FROM added ORDER BY id ON CONFLICT DO NOTHING
