-- $1 keys
SELECT o.id, o.key, o.stored_at IS NOT NULL OR o.is_external AS stored, o.condemned_at IS NOT NULL AS condemned,
       o.claimed_at IS NOT NULL AS claimed
FROM unnest($1::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.key LIMIT 1) o
