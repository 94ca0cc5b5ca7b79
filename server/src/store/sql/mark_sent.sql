-- $1 upload, $2 objects, $3 SHA-256 of their bodies or NULL, $4 bytes of them or NULL where they are known
-- Only what the upload still holds and is still the writer of: a listing may have become another's since
-- it was looked at.
WITH s AS MATERIALIZED (
  SELECT o.id, r.sha256, r.bytes
  FROM unnest($2::bigint[], $3::bytea[], $4::bigint[]) AS r(id, sha256, bytes)
  CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = r.id LIMIT 1) o
  WHERE o.stored_at IS NULL AND o.claimed_at IS NULL AND o.writer = $1
    AND (SELECT true FROM holds h WHERE h.upload = $1 AND h.object_id = o.id LIMIT 1)
)
UPDATE objects o SET stored_at = now(), sha256 = s.sha256, size = coalesce(s.bytes, o.size) FROM s
WHERE o.id = s.id AND o.stored_at IS NULL
