-- $1 keys of narinfos in the bucket that nobody knows: those that still nobody knows, holds or may be writing
SELECT o.id FROM unnest($1::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.key LIMIT 1) o
WHERE o.stored_at IS NULL AND o.claimed_at IS NULL
  AND (o.writable_until IS NULL OR o.writable_until < now())
  AND (SELECT true FROM narinfos n WHERE n.object_id = o.id LIMIT 1) IS NULL
  AND (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NULL
ORDER BY o.id
FOR NO KEY UPDATE OF o
