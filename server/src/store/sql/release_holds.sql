-- $1 upload, $2 how many
-- What is let go becomes a candidate unless it is a closure or something alive refers to it. Holds of
-- other uploads do not count here: two that let go of one object at the same time would each see the
-- other's hold, and nobody would remember the object. References have no cycles, so of whatever is
-- garbage now, a top without live referrers is among the candidates, and the rest follows from it.
--
-- By ctid: an IN with LIMIT is asked again for each row when statistics say that an upload is small.
WITH gone AS MATERIALIZED (
  DELETE FROM holds h
  WHERE h.ctid = ANY (ARRAY(SELECT ctid FROM holds WHERE upload = $1 LIMIT $2))
  RETURNING h.object_id
), noted AS (
  INSERT INTO candidates
  SELECT g.object_id FROM gone g
  WHERE (SELECT true FROM closures c WHERE c.object_id = g.object_id LIMIT 1) IS NULL
    -- Only a few referrers, from either end: a candidate too many is asked about by the collector. While
    -- the newest are condemned, each push would look at all of them, for all of the core that it held.
    AND coalesce(
      (SELECT true FROM (SELECT src FROM refs r WHERE r.dst = g.object_id ORDER BY r.src DESC LIMIT 8) r
       JOIN objects s ON s.id = r.src WHERE s.condemned_at IS NULL LIMIT 1),
      (SELECT true FROM (SELECT src FROM refs r WHERE r.dst = g.object_id ORDER BY r.src LIMIT 8) r
       JOIN objects s ON s.id = r.src WHERE s.condemned_at IS NULL LIMIT 1)) IS NULL
  ORDER BY g.object_id            -- two releases of the same objects do not dead-lock
  ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
