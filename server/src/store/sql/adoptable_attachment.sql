-- $1 key of an attachment in the bucket, $2 key of the narinfo that it is of, or NULL and $3 key of the NAR that it
-- names: its row, and those, if somebody knows them and nobody has the attachment in hand. Locked.
SELECT o.id, p.id AS narinfo_id, p.nar_id
FROM objects o
CROSS JOIN LATERAL (
  SELECT p.id, n.nar_id FROM objects p
  CROSS JOIN LATERAL (SELECT n.nar_id FROM narinfos n WHERE n.object_id = p.id LIMIT 1) n
  WHERE p.key = $2 AND p.stored_at IS NOT NULL AND p.claimed_at IS NULL
  UNION ALL
  SELECT p.id, d.id FROM objects d
  CROSS JOIN LATERAL (SELECT r.src FROM refs r WHERE r.dst = d.id) r
  CROSS JOIN LATERAL (
    SELECT n.object_id FROM narinfos n WHERE n.object_id = r.src AND n.nar_id = d.id LIMIT 1) n
  JOIN objects p ON p.id = n.object_id
  WHERE d.key = $3 AND d.stored_at IS NOT NULL AND d.claimed_at IS NULL
    AND p.stored_at IS NOT NULL AND p.claimed_at IS NULL
  LIMIT 1) p
WHERE o.key = $1 AND o.stored_at IS NULL AND o.claimed_at IS NULL
  AND (o.writable_until IS NULL OR o.writable_until < now())
  AND (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NULL
  AND (SELECT true FROM refs r WHERE r.dst = o.id LIMIT 1) IS NULL
FOR NO KEY UPDATE OF o
