-- $1 objects that a pin has let go. One that is a closure waits until that expires.
INSERT INTO candidates
SELECT DISTINCT i.id FROM unnest($1::bigint[]) AS i(id)
WHERE (SELECT true FROM objects o WHERE o.id = i.id LIMIT 1)
  AND (SELECT true FROM closures c WHERE c.object_id = i.id LIMIT 1) IS NULL
ORDER BY 1
ON CONFLICT DO NOTHING
