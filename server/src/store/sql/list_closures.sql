-- $1 after which key of a narinfo, $2 how many
WITH page AS MATERIALIZED (
  SELECT c.*, o.key FROM closures c
  CROSS JOIN LATERAL (SELECT o.key FROM objects o WHERE o.id = c.object_id LIMIT 1) o
  WHERE o.key > $1
  ORDER BY o.key LIMIT $2
)
SELECT p.object_id, p.key, p.pushed_at, p.paths, p.bytes,
       (SELECT n.store_path FROM narinfos n WHERE n.object_id = p.object_id LIMIT 1) AS store_path,
       ARRAY(SELECT q.name FROM pins q WHERE q.object_id = p.object_id
             UNION
             SELECT q.name FROM pins q WHERE q.filed = p.object_id
             ORDER BY 1) AS pinned_by
FROM page p
ORDER BY p.key
