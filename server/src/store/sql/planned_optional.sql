-- $1 upload, $2 keys of narinfos: what the upload's plan says of these paths
SELECT k.key, p.nar_hash, CASE WHEN p.has_log THEN p.deriver END AS log_of
FROM unnest($2::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT o.id FROM objects o WHERE o.key = k.key LIMIT 1) o
CROSS JOIN LATERAL (
  SELECT * FROM upload_paths p WHERE p.upload = $1 AND p.object_id = o.id LIMIT 1) p
