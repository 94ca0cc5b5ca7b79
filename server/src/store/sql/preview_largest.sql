-- $1 seconds of grace, $2 how many: the largest of what would be condemned or deleted
SELECT o.key, o.size,
       coalesce((SELECT n.store_path FROM narinfos n WHERE n.object_id = o.id LIMIT 1),
                (SELECT n.store_path FROM refs r JOIN narinfos n ON n.object_id = r.src
                 WHERE r.dst = o.id LIMIT 1)) AS store_path
FROM (
  SELECT w.id FROM would_condemn w
  UNION ALL
  SELECT id FROM objects
  WHERE condemned_at IS NOT NULL AND condemned_at <= now() - make_interval(secs => $1)) i
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = i.id AND o.stored_at IS NOT NULL LIMIT 1) o
ORDER BY o.size DESC NULLS LAST, o.key LIMIT $2
