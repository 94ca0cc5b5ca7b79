-- $1 upload, $2 NarHashes: of each a multipart upload that S3 has opened for this upload and of which no
-- part was asked for: its opening was answered to nobody
SELECT m.id, m.key, m.s3_id
FROM unnest($2::text[]) AS h(hash)
CROSS JOIN LATERAL (
  SELECT o.id, o.key, m.s3_id FROM objects o
  CROSS JOIN LATERAL (SELECT * FROM multiparts m WHERE m.object_id = o.id LIMIT 1) m
  WHERE o.key >= 'nar/' || h.hash || '-' AND o.key < 'nar/' || h.hash || '.'
    AND o.writer = $1 AND o.stored_at IS NULL AND o.claimed_at IS NULL
    AND m.s3_id IS NOT NULL AND NOT m.parts_asked
  ORDER BY o.key LIMIT 1) m
