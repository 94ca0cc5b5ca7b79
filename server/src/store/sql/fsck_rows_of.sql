-- $1 keys
SELECT o.id, o.key, o.size, o.claimed_at IS NOT NULL AS claimed,
       (extract(epoch FROM o.stored_at) * 1000000)::bigint AS stored
FROM unnest($1::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.key LIMIT 1) o
