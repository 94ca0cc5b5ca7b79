-- $1 objects, with the gate closed: those that are garbage are condemned, and what they refer to may be
-- garbage next.
-- Scalar subqueries with LIMIT: one index look-up each, whatever the statistics say. NOT EXISTS becomes an
-- anti-join, and with "holds is empty" in the statistics that reads all of holds for each object.
WITH garbage AS MATERIALIZED (
  SELECT o.id FROM unnest($1::bigint[]) AS i(id)
  CROSS JOIN LATERAL (
    SELECT o.id FROM objects o WHERE o.id = i.id AND o.condemned_at IS NULL LIMIT 1) o
  WHERE (SELECT true FROM closures c WHERE c.object_id = o.id LIMIT 1) IS NULL
    AND (SELECT true FROM pins p WHERE p.object_id = o.id LIMIT 1) IS NULL
    AND (SELECT true FROM pins p WHERE p.filed = o.id LIMIT 1) IS NULL
    AND (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NULL
    -- Mostly old referrers are those that are dead, and the newest is alive; or else the oldest. What is
    -- still asked about after that has all of its referrers looked at, of which a hot one has millions.
    AND coalesce(
      (SELECT true FROM (SELECT src FROM refs r WHERE r.dst = o.id AND r.src <> o.id ORDER BY r.src DESC LIMIT 8) r
       JOIN objects s ON s.id = r.src WHERE s.condemned_at IS NULL LIMIT 1),
      (SELECT true FROM (SELECT src FROM refs r WHERE r.dst = o.id AND r.src <> o.id ORDER BY r.src LIMIT 8) r
       JOIN objects s ON s.id = r.src WHERE s.condemned_at IS NULL LIMIT 1),
      (SELECT true FROM refs r JOIN objects s ON s.id = r.src
       WHERE r.dst = o.id AND r.src <> o.id AND s.condemned_at IS NULL
       ORDER BY r.src DESC LIMIT 1)) IS NULL
), condemned AS (
  UPDATE objects o SET condemned_at = now()
  WHERE o.id = ANY (ARRAY(SELECT id FROM garbage)) AND o.condemned_at IS NULL
  RETURNING o.id, CASE WHEN o.stored_at IS NULL THEN 0 ELSE coalesce(o.size, 0) END AS bytes
), next AS (
  INSERT INTO candidates
  SELECT DISTINCT r.dst FROM condemned c
  CROSS JOIN LATERAL (SELECT r.dst FROM refs r WHERE r.src = c.id AND r.dst <> c.id) r
  ORDER BY 1
  ON CONFLICT DO NOTHING
  RETURNING object_id
)
SELECT count(*), coalesce(sum(bytes), 0)::bigint, (SELECT max(object_id) FROM next) FROM condemned
