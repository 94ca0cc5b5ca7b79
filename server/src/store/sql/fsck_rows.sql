-- $1 after which key, $2 how many
SELECT o.id, o.key, o.size, o.claimed_at IS NOT NULL AS claimed,
       (extract(epoch FROM o.stored_at) * 1000000)::bigint AS stored
FROM objects o WHERE o.key > $1 ORDER BY o.key LIMIT $2
