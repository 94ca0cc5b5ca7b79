-- $1 upload, $2 keys of listings and logs, $3 what they describe, $4 bytes, $5 checksums
-- One writer and one body until nobody can write the key any more. What another upload has locked at
-- this moment is its own.
WITH k AS MATERIALIZED (
  SELECT DISTINCT ON (key) *
  FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[]) AS k(key, hash, bytes, checksum)
), l AS MATERIALIZED (
  SELECT o.id, k.hash, k.bytes, k.checksum, o.stored_at IS NOT NULL AS stored
  FROM k JOIN objects o ON o.key = k.key
  WHERE o.claimed_at IS NULL
    -- a listing of other contents than the path was composed with: readers would find it beside its narinfo
    AND coalesce(
      (SELECT n.nar_hash FROM narinfos n
       WHERE n.object_id = (SELECT p.id FROM objects p
                            WHERE p.key = left(k.key, -length('.ls')) || '.narinfo' LIMIT 1)
       LIMIT 1), k.hash) = k.hash
    AND CASE WHEN o.stored_at IS NOT NULL THEN o.describes = k.hash
             ELSE o.writable_until IS NULL OR o.writable_until < now()
                  -- the very same body, whoever may be writing it: a push that failed is taken up
                  OR (o.size = k.bytes AND o.checksum = k.checksum AND o.describes = k.hash)
        END
  ORDER BY o.id
  FOR NO KEY UPDATE OF o SKIP LOCKED
)
UPDATE objects o
SET condemned_at = NULL,
    writer = CASE WHEN l.stored THEN o.writer ELSE $1 END,
    size = CASE WHEN l.stored THEN o.size ELSE l.bytes END,
    checksum = CASE WHEN l.stored THEN o.checksum ELSE l.checksum END,
    describes = l.hash
FROM l WHERE o.id = l.id
RETURNING o.id, o.key, o.size, l.stored
