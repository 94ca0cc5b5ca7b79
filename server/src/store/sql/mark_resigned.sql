-- $1 objects that we have sent, $2 the versions of their texts: the bucket has what is recorded of them,
-- unless somebody has recorded something else since.
WITH l AS MATERIALIZED (
  SELECT o.id FROM unnest($1::bigint[], $2::bigint[]) AS i(id, version)
  JOIN objects o ON o.id = i.id
  WHERE coalesce((SELECT n.version FROM narinfos n WHERE n.object_id = o.id LIMIT 1),
                 (SELECT a.version FROM attachments a WHERE a.object_id = o.id LIMIT 1)) = i.version
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
DELETE FROM resigned r WHERE r.object_id = ANY (ARRAY(SELECT id FROM l))
