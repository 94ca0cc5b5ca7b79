-- $1 how many: narinfos that are not in the bucket, that nobody is pushing or writing, and that can be sent again as
-- they were composed: their NARs and references are there
SELECT o.id FROM narinfos c JOIN objects o ON o.id = c.object_id
WHERE o.stored_at IS NULL AND o.claimed_at IS NULL AND o.condemned_at IS NULL
  AND (o.writable_until IS NULL OR o.writable_until < now())
  AND (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NULL
  AND (SELECT n.stored_at FROM objects n WHERE n.id = c.nar_id LIMIT 1) IS NOT NULL
  AND (SELECT true FROM refs r JOIN objects d ON d.id = r.dst
       WHERE r.src = o.id AND d.kind = 1 AND NOT d.is_external AND (d.stored_at IS NULL OR d.claimed_at IS NOT NULL)
       LIMIT 1) IS NULL
LIMIT $1
