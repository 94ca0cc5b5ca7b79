-- $1 objects, $2 seconds of grace, $3 seconds until no request of this claim can be under way any more.
-- With the gate closed. An object to which any row refers is left out: that referrer may still be in the
-- bucket. Its turn comes when the row has been deleted.
WITH t AS MATERIALIZED (SELECT clock_timestamp() AS at, nextval('claims') AS token
), asked AS MATERIALIZED (
  SELECT o.id,
         -- somebody may still write it: what is deleted now could come back without a row
         o.writable_until IS NOT NULL AND o.writable_until >= now() AS writable,
         -- the question is asked again
         coalesce((SELECT true FROM closures c WHERE c.object_id = o.id LIMIT 1),
                  (SELECT true FROM pins p WHERE p.object_id = o.id LIMIT 1),
                  (SELECT true FROM pins p WHERE p.filed = o.id LIMIT 1),
                  (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1),
                  CASE WHEN o.kind IN (7, 8) THEN
                    (SELECT true FROM refs r JOIN objects s ON s.id = r.src
                     WHERE r.dst = o.id AND s.condemned_at IS NULL LIMIT 1) END, false) AS needed
  FROM unnest($1::bigint[]) AS i(id)
  CROSS JOIN LATERAL (
    SELECT * FROM objects o
    WHERE o.id = i.id AND o.claimed_at IS NULL
      AND o.condemned_at <= now() - make_interval(secs => $2) LIMIT 1) o
  -- The oldest first: rows are deleted from the newest on, and this stops at the first that is there.
  -- The other way round for realisations, which are deleted before the path that they are of.
  WHERE CASE WHEN o.kind NOT IN (7, 8) THEN
      (SELECT true FROM refs r WHERE r.dst = o.id AND r.src <> o.id ORDER BY r.src LIMIT 1) END IS NULL
    AND CASE WHEN o.is_realised THEN
      (SELECT true FROM refs r JOIN objects d ON d.id = r.dst
       WHERE r.src = o.id AND d.kind IN (7, 8) LIMIT 1) END IS NULL
    -- S3 may have parts of it: they are aborted first
    AND (SELECT true FROM multiparts m WHERE m.object_id = o.id LIMIT 1) IS NULL
), claimed AS (
  UPDATE objects o
  SET claimed_at = t.at, claim = t.token, claim_until = t.at + make_interval(secs => $3)
  FROM t
  WHERE o.id = ANY (ARRAY(SELECT id FROM asked WHERE NOT writable AND NOT needed))
  RETURNING o.id, o.key
)
-- No join of the two: each row of the one would be compared with each of the other.
SELECT t.token, extract(epoch FROM t.at)::float8 AS at, r.id, r.key, r.needed, r.writable
FROM t CROSS JOIN (
  SELECT c.id, c.key, false AS needed, false AS writable FROM claimed c
  UNION ALL
  SELECT a.id, NULL, a.needed, a.writable FROM asked a WHERE a.needed OR a.writable) r
ORDER BY r.id DESC
