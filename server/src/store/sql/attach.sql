-- $1 upload, $2 attachments, $3 the narinfos that they are of: those that are in the bucket with what they shall
-- say belong to these narinfos, and are done
WITH a AS MATERIALIZED (
  SELECT i.id, i.narinfo_id, o.kind FROM unnest($2::bigint[], $3::bigint[]) AS i(id, narinfo_id)
  JOIN objects o ON o.id = i.id
), referring AS (
  INSERT INTO refs (src, dst) SELECT narinfo_id, id FROM a ORDER BY 1, 2 ON CONFLICT DO NOTHING
), realised AS (
  UPDATE objects o SET is_realised = true
  WHERE o.id = ANY (ARRAY(SELECT narinfo_id FROM a WHERE kind IN (7, 8))) AND NOT o.is_realised
)
UPDATE upload_attachments u SET done = true WHERE u.upload = $1 AND u.object_id = ANY ($2)
