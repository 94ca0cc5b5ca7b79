-- $1 how many: objects that are needed and are garbage all the same, or are being deleted
SELECT o.key, o.id, NULL::bigint AS other
FROM objects o JOIN fsck_reached m ON m.id = o.id AND m.needed
WHERE o.condemned_at IS NOT NULL OR o.claimed_at IS NOT NULL
ORDER BY o.id LIMIT $1
