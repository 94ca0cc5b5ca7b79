-- $1 how many: composed narinfos whose NAR is not there, is being deleted, or is not kept by them
SELECT o.key, o.id, n.nar_id AS other
FROM narinfos n JOIN objects o ON o.id = n.object_id
LEFT JOIN objects a ON a.id = n.nar_id
LEFT JOIN refs r ON r.src = n.object_id AND r.dst = n.nar_id
WHERE o.claimed_at IS NULL
  AND (a.id IS NULL OR a.stored_at IS NULL OR a.claimed_at IS NOT NULL OR r.src IS NULL)
ORDER BY o.id LIMIT $1
