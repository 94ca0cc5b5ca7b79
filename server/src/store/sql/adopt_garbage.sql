-- $1 keys, $2 kinds, $3 seconds: objects in the bucket that nobody knows and nobody needs. The collection
-- deletes them, when no URL that was given away for them can be used any more. Not as stored: nobody knows
-- what they are well enough to use them.
WITH added AS (
  INSERT INTO objects (key, kind, writable_until)
  SELECT k.key, k.kind, now() + make_interval(secs => $3)
  FROM unnest($1::text[], $2::smallint[]) AS k(key, kind)
  ORDER BY k.key
  ON CONFLICT (key) DO NOTHING
  RETURNING id
)
INSERT INTO candidates SELECT id FROM added ORDER BY id ON CONFLICT DO NOTHING
