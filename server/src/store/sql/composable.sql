-- $1 upload, $2 narinfos, locked by us: what they will say, unless somebody composed them just before
SELECT p.object_id AS id, p.store_path, p.nar_hash, p.nar_size, p.deriver, p.ca, p.signatures,
       p.ref_paths, n.id AS nar_id, n.key AS nar_key, n.size AS nar_bytes, n.sha256
FROM unnest($2::bigint[]) AS i(id)
CROSS JOIN LATERAL (
  SELECT * FROM upload_paths p WHERE p.upload = $1 AND p.object_id = i.id LIMIT 1) p
-- the first that was stored wins
CROSS JOIN LATERAL (
  SELECT n.id, n.key, n.size, n.sha256 FROM objects n
  WHERE n.key >= 'nar/' || p.nar_hash || '-' AND n.key < 'nar/' || p.nar_hash || '.'
    AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL
  ORDER BY n.stored_at, n.id LIMIT 1) n
WHERE (SELECT true FROM narinfos c WHERE c.object_id = i.id LIMIT 1) IS NULL
  AND (SELECT o.stored_at FROM objects o WHERE o.id = i.id LIMIT 1) IS NULL
