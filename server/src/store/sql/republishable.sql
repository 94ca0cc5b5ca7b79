-- $1 narinfos that are not in the bucket: those that are composed and whose NAR and references are there
SELECT o.id FROM objects o
WHERE o.id = ANY ($1) AND o.kind = 1 AND o.stored_at IS NULL AND o.claimed_at IS NULL
  AND (SELECT n.stored_at FROM narinfos c JOIN objects n ON n.id = c.nar_id
       WHERE c.object_id = o.id LIMIT 1) IS NOT NULL
  AND (SELECT true FROM refs r JOIN objects d ON d.id = r.dst
       WHERE r.src = o.id AND d.kind = 1 AND d.stored_at IS NULL LIMIT 1) IS NULL
