-- $1 upload, $2 NarHashes, $3 bytes, $4 checksums
SELECT o.id, o.key, o.size, o.stored_at IS NOT NULL AS stored
FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS k(hash, bytes, checksum)
CROSS JOIN LATERAL (
  SELECT * FROM objects o
  WHERE o.key >= 'nar/' || k.hash || '-' AND o.key < 'nar/' || k.hash || '.'
    AND o.writer = $1 AND o.size = k.bytes AND o.checksum = k.checksum AND o.claimed_at IS NULL
  ORDER BY o.key LIMIT 1) o
