-- $1 how many: what paths are whose object has no row
SELECT left(n.store_path, 32) || '.narinfo' AS key, n.object_id AS id, n.nar_id AS other
FROM narinfos n LEFT JOIN objects o ON o.id = n.object_id
WHERE o.id IS NULL
ORDER BY n.object_id LIMIT $1
