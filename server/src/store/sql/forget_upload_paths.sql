-- $1 upload, $2 how many of each
WITH attachments AS (
  DELETE FROM upload_attachments
  WHERE ctid = ANY (ARRAY(SELECT ctid FROM upload_attachments WHERE upload = $1 LIMIT $2))
  RETURNING 1
), paths AS (
  DELETE FROM upload_paths
  WHERE ctid = ANY (ARRAY(SELECT ctid FROM upload_paths WHERE upload = $1 LIMIT $2))
  RETURNING 1
)
SELECT greatest((SELECT count(*) FROM attachments), (SELECT count(*) FROM paths))
