-- $1 how many: narinfos that are in the bucket, and of which nobody knows what they say
SELECT o.key, o.id, NULL::bigint AS other
FROM objects o LEFT JOIN narinfos n ON n.object_id = o.id
WHERE o.kind = 1 AND o.stored_at IS NOT NULL AND o.claimed_at IS NULL AND n.object_id IS NULL
ORDER BY o.id LIMIT $1
