-- $1 narinfos in the bucket that cannot be realised, or realisations of such, $2 seconds until no request of this claim can be under
-- way any more. Not those that somebody may be writing, or that are published and whose referrers are:
-- these come first. With the gate closed.
WITH t AS MATERIALIZED (SELECT clock_timestamp() AS at, nextval('claims') AS token
), take AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY ($1) AND o.kind IN (1, 7, 8) AND o.claimed_at IS NULL
    AND (o.writable_until IS NULL OR o.writable_until < now())
    AND CASE WHEN o.kind = 1 THEN
        (SELECT true FROM refs r JOIN objects s ON s.id = r.src
         WHERE r.dst = o.id AND r.src <> o.id AND s.kind = 1
           AND (s.stored_at IS NOT NULL OR s.claimed_at IS NOT NULL) LIMIT 1) END IS NULL
  ORDER BY o.id FOR NO KEY UPDATE
)
UPDATE objects o
SET claimed_at = t.at, claim = t.token, claim_until = t.at + make_interval(secs => $2)
FROM t WHERE o.id = ANY (ARRAY(SELECT id FROM take))
RETURNING o.id, o.key, t.token, extract(epoch FROM t.at)::float8 AS at
