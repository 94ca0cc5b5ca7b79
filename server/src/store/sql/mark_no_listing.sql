-- $1 upload, $2 keys of narinfos
UPDATE upload_paths p SET no_listing = true
FROM unnest($2::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT o.id FROM objects o WHERE o.key = k.key LIMIT 1) o
WHERE p.upload = $1 AND p.object_id = o.id
