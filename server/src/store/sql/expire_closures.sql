-- $1 pushed before (seconds since 1970), $2 how many. With the gate closed: a pin is not made meanwhile.
WITH old AS MATERIALIZED (
  SELECT c.ctid FROM closures c
  WHERE c.pushed_at < to_timestamp($1)
    AND (SELECT true FROM pins p WHERE p.object_id = c.object_id LIMIT 1) IS NULL
    AND (SELECT true FROM pins p WHERE p.filed = c.object_id LIMIT 1) IS NULL
  LIMIT $2
), gone AS (
  DELETE FROM closures c WHERE c.ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING c.object_id
), noted AS (
  INSERT INTO candidates SELECT object_id FROM gone ORDER BY object_id ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
