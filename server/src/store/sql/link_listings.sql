-- $1 upload, $2 objects: the listings among them that are stored are the listings of their paths in this upload
UPDATE upload_paths p SET listing_id = l.id
FROM (
  SELECT l.id, q.ctid FROM unnest($2::bigint[]) AS i(id)
  CROSS JOIN LATERAL (
    SELECT l.id, left(l.key, -length('.ls')) || '.narinfo' AS narinfo FROM objects l
    WHERE l.id = i.id AND l.kind = 3 AND l.stored_at IS NOT NULL LIMIT 1) l
  CROSS JOIN LATERAL (SELECT o.id FROM objects o WHERE o.key = l.narinfo LIMIT 1) o
  CROSS JOIN LATERAL (
    SELECT q.ctid FROM upload_paths q WHERE q.upload = $1 AND q.object_id = o.id LIMIT 1) q
) l
WHERE p.ctid = l.ctid
