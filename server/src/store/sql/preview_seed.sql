-- $1 pushed before (seconds since 1970), $2 uploads that would let go
WITH expire AS (
  INSERT INTO would_expire
  SELECT c.object_id FROM closures c
  WHERE c.pushed_at < to_timestamp($1)
    AND (SELECT true FROM pins p WHERE p.object_id = c.object_id LIMIT 1) IS NULL
    AND (SELECT true FROM pins p WHERE p.filed = c.object_id LIMIT 1) IS NULL
  RETURNING id
), ask AS (
  INSERT INTO would_ask
  SELECT id FROM expire
  UNION SELECT object_id FROM candidates
  UNION SELECT h.object_id FROM unnest($2::bigint[]) AS u(number)
        CROSS JOIN LATERAL (SELECT h.object_id FROM holds h WHERE h.upload = u.number) h
)
SELECT count(*) FROM expire
