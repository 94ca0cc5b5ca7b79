-- $1 upload, $2 keys
SELECT o.id, o.key, o.size, o.stored_at IS NOT NULL AS stored
FROM unnest($2::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.key AND o.writer = $1 LIMIT 1) o
WHERE (SELECT true FROM holds h WHERE h.upload = $1 AND h.object_id = o.id LIMIT 1)
