-- $1 upload, $2 how many
-- SKIP LOCKED: what another composer has in hand will be composed when we look again.
SELECT o.id, p.store_path, p.nar_hash, p.nar_size, p.deriver, p.ca, p.signatures, p.ref_paths,
       n.id AS nar_id, n.key AS nar_key, n.size AS nar_bytes, n.sha256
FROM upload_paths p
JOIN objects o ON o.id = p.object_id
-- the first that was stored wins
CROSS JOIN LATERAL (
  SELECT n.id, n.key, n.size, n.sha256 FROM objects n
  WHERE n.key >= 'nar/' || p.nar_hash || '-' AND n.key < 'nar/' || p.nar_hash || '.'
    AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL
  ORDER BY n.stored_at, n.id LIMIT 1) n
WHERE p.upload = $1
  AND o.stored_at IS NULL
  AND (SELECT true FROM narinfos c WHERE c.object_id = p.object_id LIMIT 1) IS NULL
  -- an older composition that was found void may still be on its way to the bucket
  AND (o.writable_until IS NULL OR o.writable_until < now())
  AND (SELECT true FROM unnest(p.refs) AS r(id) JOIN objects t ON t.id = r.id
       WHERE t.stored_at IS NULL LIMIT 1) IS NULL
ORDER BY o.id
LIMIT $2
FOR NO KEY UPDATE OF o SKIP LOCKED
