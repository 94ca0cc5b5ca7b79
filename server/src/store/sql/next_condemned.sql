-- $1 below which one, $2 how many to look at, $3 seconds of grace: the last one that was looked at, and
-- those that a claim would get, referrers mostly before what they refer to. Only a look, with the gate open:
-- the claim asks again. What is in its grace counts as looked at, so that no look is long.
WITH page AS MATERIALIZED (
  SELECT o.id, o.kind, o.is_realised,
         o.claimed_at IS NULL AND o.condemned_at <= now() - make_interval(secs => $3) AS ripe
  FROM objects o
  WHERE o.condemned_at IS NOT NULL AND o.id < $1
  ORDER BY o.id DESC LIMIT $2
), free AS MATERIALIZED (
  SELECT p.id FROM page p
  WHERE CASE WHEN p.ripe THEN
      CASE WHEN p.kind NOT IN (7, 8) THEN
        (SELECT true FROM refs r WHERE r.dst = p.id AND r.src <> p.id ORDER BY r.src LIMIT 1) END IS NULL
      AND CASE WHEN p.is_realised THEN
        (SELECT true FROM refs r JOIN objects d ON d.id = r.dst
         WHERE r.src = p.id AND d.kind IN (7, 8) LIMIT 1) END IS NULL END
)
SELECT (SELECT min(id) FROM page), coalesce((SELECT array_agg(id ORDER BY id DESC) FROM free), '{}')
