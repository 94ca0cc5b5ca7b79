-- $1 how many: objects that nothing needs and that no collection will ask about
SELECT o.key, o.id, NULL::bigint AS other
FROM objects o LEFT JOIN fsck_reached m ON m.id = o.id
WHERE o.condemned_at IS NULL AND m.id IS NULL
ORDER BY o.id LIMIT $1
