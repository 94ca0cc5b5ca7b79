-- $1 key of a narinfo
SELECT c.object_id, o.key, c.pushed_at, c.paths, c.bytes,
       (SELECT n.store_path FROM narinfos n WHERE n.object_id = c.object_id LIMIT 1) AS store_path,
       ARRAY(SELECT q.name FROM pins q WHERE q.object_id = c.object_id
             UNION
             SELECT q.name FROM pins q WHERE q.filed = c.object_id
             ORDER BY 1) AS pinned_by
FROM objects o
CROSS JOIN LATERAL (SELECT * FROM closures c WHERE c.object_id = o.id LIMIT 1) c
WHERE o.key = $1
