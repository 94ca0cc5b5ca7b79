-- $1 upload
WITH p AS MATERIALIZED (
  SELECT p.store_path, o.stored_at IS NOT NULL AS published,
         o.stored_at IS NULL
         AND (SELECT true FROM narinfos c WHERE c.object_id = p.object_id LIMIT 1) IS NULL
         AND (SELECT true FROM objects n
              WHERE n.key >= 'nar/' || p.nar_hash || '-' AND n.key < 'nar/' || p.nar_hash || '.'
                AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL LIMIT 1) IS NULL AS without_nar
  FROM upload_paths p JOIN objects o ON o.id = p.object_id
  WHERE p.upload = $1
)
SELECT count(*) FILTER (WHERE published) AS published, count(*) AS total,
       count(*) FILTER (WHERE without_nar) AS without_nar,
       min(store_path) FILTER (WHERE without_nar) AS example
FROM p
