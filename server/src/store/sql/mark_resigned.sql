-- $1 objects that we have sent, $2 until when they were writable then: the bucket has what is recorded of them,
-- unless somebody has recorded something else since.
WITH l AS MATERIALIZED (
  SELECT o.id FROM unnest($1::bigint[], $2::bigint[]) AS i(id, until)
  JOIN objects o ON o.id = i.id
  WHERE (extract(epoch FROM o.writable_until) * 1000000)::bigint = i.until
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
DELETE FROM resigned r WHERE r.object_id = ANY (ARRAY(SELECT id FROM l))
