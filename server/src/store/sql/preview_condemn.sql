-- $1 objects, $2 uploads that would let go: as condemn.sql, with what would be condemned taken for condemned
WITH garbage AS (
  INSERT INTO would_condemn
  SELECT o.id FROM unnest($1::bigint[]) AS i(id)
  CROSS JOIN LATERAL (
    SELECT o.id FROM objects o WHERE o.id = i.id AND o.condemned_at IS NULL LIMIT 1) o
  WHERE (SELECT true FROM closures c WHERE c.object_id = o.id
           AND (SELECT true FROM would_expire e WHERE e.id = c.object_id LIMIT 1) IS NULL LIMIT 1) IS NULL
    AND (SELECT true FROM pins p WHERE p.object_id = o.id LIMIT 1) IS NULL
    AND (SELECT true FROM pins p WHERE p.filed = o.id LIMIT 1) IS NULL
    AND (SELECT true FROM holds h WHERE h.object_id = o.id AND h.upload <> ALL ($2) LIMIT 1) IS NULL
    AND (SELECT true FROM refs r JOIN objects s ON s.id = r.src
         WHERE r.dst = o.id AND r.src <> o.id AND s.condemned_at IS NULL
           AND (SELECT true FROM would_condemn w WHERE w.id = r.src LIMIT 1) IS NULL
         ORDER BY r.src DESC LIMIT 1) IS NULL
  ON CONFLICT DO NOTHING
  RETURNING id
)
INSERT INTO would_ask
SELECT DISTINCT r.dst FROM garbage g
CROSS JOIN LATERAL (SELECT r.dst FROM refs r WHERE r.src = g.id AND r.dst <> g.id) r
ON CONFLICT DO NOTHING
