-- $1 objects held by uploads that there are not
WITH gone AS (
  DELETE FROM holds h
  WHERE h.object_id = ANY ($1) AND (SELECT true FROM uploads u WHERE u.number = h.upload LIMIT 1) IS NULL
  RETURNING h.object_id
), paths AS (
  DELETE FROM upload_paths p
  WHERE p.object_id = ANY ($1) AND (SELECT true FROM uploads u WHERE u.number = p.upload LIMIT 1) IS NULL
), attached AS (
  DELETE FROM upload_attachments a
  WHERE a.object_id = ANY ($1) AND (SELECT true FROM uploads u WHERE u.number = a.upload LIMIT 1) IS NULL
)
INSERT INTO candidates SELECT DISTINCT object_id FROM gone ORDER BY 1 ON CONFLICT DO NOTHING
