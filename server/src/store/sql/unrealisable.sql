-- $1 narinfos that cannot be realised: they, and all that refers to them, each with what it refers to among
-- them. Whoever is claimed goes anyway.
WITH RECURSIVE up(id) AS (
  SELECT unnest($1::bigint[])
  UNION
  SELECT r.src FROM up JOIN refs r ON r.dst = up.id JOIN objects s ON s.id = r.src
  WHERE s.kind = 1 AND s.claimed_at IS NULL
)
SELECT o.id, o.key, ARRAY(SELECT r.dst FROM refs r WHERE r.src = o.id AND r.dst IN (SELECT id FROM up)) AS refs
FROM up JOIN objects o ON o.id = up.id WHERE o.kind = 1 AND o.claimed_at IS NULL
