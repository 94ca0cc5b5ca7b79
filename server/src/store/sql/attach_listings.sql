-- $1 upload
WITH p AS MATERIALIZED (
  SELECT n.object_id, n.nar_hash, p.no_listing, left(o.key, -length('.narinfo')) || '.ls' AS listing
  FROM upload_paths p
  JOIN objects o ON o.id = p.object_id
  JOIN narinfos n ON n.object_id = p.object_id AND n.nar_hash = p.nar_hash
  WHERE p.upload = $1
), attached AS (
  INSERT INTO refs (src, dst)
  SELECT p.object_id, l.id FROM p
  CROSS JOIN LATERAL (
    SELECT l.id FROM objects l
    WHERE l.key = p.listing AND l.stored_at IS NOT NULL AND l.claimed_at IS NULL
      AND l.describes = p.nar_hash
      -- only one that this upload holds: another may be condemned
      AND (SELECT true FROM holds h WHERE h.upload = $1 AND h.object_id = l.id LIMIT 1)
    LIMIT 1) l
  ON CONFLICT DO NOTHING
)
UPDATE narinfos n SET no_listing = true FROM p
WHERE n.object_id = p.object_id AND p.no_listing AND NOT n.no_listing
