-- $1 upload, $2 how many
DELETE FROM upload_paths
WHERE ctid = ANY (ARRAY(SELECT ctid FROM upload_paths WHERE upload = $1 LIMIT $2))
