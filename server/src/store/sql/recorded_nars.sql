-- $1 NarHashes: of each the NAR that adopt_nars.sql takes
SELECT n.id, n.key, n.size, (extract(epoch FROM n.stored_at) * 1000000)::bigint AS stored
FROM unnest($1::text[]) AS h(hash)
CROSS JOIN LATERAL (
  SELECT * FROM objects n
  WHERE n.key >= 'nar/' || h.hash || '-' AND n.key < 'nar/' || h.hash || '.'
    AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL
  ORDER BY n.stored_at, n.id LIMIT 1) n
