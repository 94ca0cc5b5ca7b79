-- $1 upload, $2 how many
-- The lowest level that is not done, and what each of its paths waits for. No other level: a closure
-- that is one long chain has thousands of them, and each wave would look at all that cannot be its.
-- Locks nothing: what is to be composed is asked again once it is locked.
SELECT p.object_id AS id, p.store_path,
       o.stored_at IS NOT NULL AS published,
       (SELECT true FROM narinfos c WHERE c.object_id = p.object_id LIMIT 1) IS NOT NULL AS composed,
       (SELECT true FROM objects n
        WHERE n.key >= 'nar/' || p.nar_hash || '-' AND n.key < 'nar/' || p.nar_hash || '.'
          AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL LIMIT 1) IS NOT NULL AS has_nar,
       -- asked only of those that are still to be published: of the references that are recorded, or will be
       CASE WHEN o.stored_at IS NOT NULL THEN true
            WHEN (SELECT true FROM narinfos c WHERE c.object_id = p.object_id LIMIT 1) IS NULL
            THEN (SELECT true FROM unnest(p.refs) AS r(id)
                  WHERE (SELECT true FROM objects t
                         WHERE t.id = r.id AND (t.stored_at IS NOT NULL OR t.is_external) LIMIT 1) IS NULL
                  LIMIT 1) IS NULL
            ELSE (SELECT true FROM refs r JOIN objects t ON t.id = r.dst
                  WHERE r.src = p.object_id AND t.kind = 1 AND t.stored_at IS NULL AND NOT t.is_external
                  LIMIT 1) IS NULL END AS refs_published,
       -- no older composition, found void, can still be on its way to the bucket
       o.writable_until IS NULL OR o.writable_until < now() AS quiet
FROM (
  SELECT * FROM upload_paths
  WHERE upload = $1 AND NOT done
    AND level = (SELECT level FROM upload_paths WHERE upload = $1 AND NOT done ORDER BY level LIMIT 1)
  ORDER BY object_id LIMIT $2
) p
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = p.object_id LIMIT 1) o
ORDER BY p.object_id
