-- $1 upload, $2 keys of narinfos
-- By ctid: a join may go over all paths of the upload for each key.
UPDATE upload_paths p SET no_listing = true
WHERE p.ctid = ANY (ARRAY(
  SELECT q.ctid FROM unnest($2::text[]) AS k(key)
  CROSS JOIN LATERAL (SELECT o.id FROM objects o WHERE o.key = k.key LIMIT 1) o
  CROSS JOIN LATERAL (
    SELECT q.ctid FROM upload_paths q WHERE q.upload = $1 AND q.object_id = o.id LIMIT 1) q))
