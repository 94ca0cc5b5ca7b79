-- $1 keys, $2 their kinds. In their order: two uploads that insert the same ones do not dead-lock.
-- A new row is a candidate: one that this upload does not get to hold after all must not be forgotten.
WITH added AS (
  INSERT INTO objects (key, kind)
  SELECT DISTINCT k.key, k.kind FROM unnest($1::text[], $2::smallint[]) AS k(key, kind)
  WHERE (SELECT true FROM objects o WHERE o.key = k.key LIMIT 1) IS NULL
  ORDER BY 1
  ON CONFLICT (key) DO NOTHING
  RETURNING id
)
INSERT INTO candidates SELECT id FROM added ORDER BY id ON CONFLICT DO NOTHING
