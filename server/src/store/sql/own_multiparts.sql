-- $1 upload, $2 keys: those of its multipart uploads that S3 has opened, whose parts are asked for
WITH asked AS MATERIALIZED (
SELECT o.id, o.key, m.s3_id
FROM unnest($2::text[]) AS k(key)
CROSS JOIN LATERAL (
  SELECT * FROM objects o
  WHERE o.key = k.key AND o.writer = $1 AND o.stored_at IS NULL AND o.claimed_at IS NULL LIMIT 1) o
CROSS JOIN LATERAL (SELECT m.s3_id FROM multiparts m WHERE m.object_id = o.id LIMIT 1) m
WHERE m.s3_id IS NOT NULL
  AND (SELECT true FROM holds h WHERE h.upload = $1 AND h.object_id = o.id LIMIT 1)
), noted AS (
  UPDATE multiparts m SET parts_asked = true
  WHERE m.object_id = ANY (ARRAY(SELECT id FROM asked)) AND NOT m.parts_asked
)
SELECT id, key, s3_id FROM asked
