-- $1 how many: narinfos that are in the bucket before one that they refer to
SELECT s.key, s.id, d.id AS other
FROM objects d JOIN refs r ON r.dst = d.id JOIN objects s ON s.id = r.src
WHERE d.kind = 1 AND NOT d.is_external AND (d.stored_at IS NULL OR d.claimed_at IS NOT NULL)
  AND s.kind = 1 AND s.stored_at IS NOT NULL AND s.claimed_at IS NULL
ORDER BY s.id, d.id LIMIT $1
