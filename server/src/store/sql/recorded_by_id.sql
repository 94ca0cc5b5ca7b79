-- $1 objects that are said to be in the bucket
SELECT o.id, o.key, o.size, (extract(epoch FROM o.stored_at) * 1000000)::bigint AS stored
FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = i.id LIMIT 1) o
WHERE o.stored_at IS NOT NULL AND o.claimed_at IS NULL
