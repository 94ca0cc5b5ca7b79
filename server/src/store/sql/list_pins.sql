-- $1 after which name, $2 how many. Those that are being deleted are none any more.
SELECT name, store_path, moved_at FROM pins
WHERE name > $1 AND object_id IS NOT NULL AND store_path IS NOT NULL
ORDER BY name LIMIT $2
