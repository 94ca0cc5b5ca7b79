-- $1 upload, $2 how many: attachments of the lowest level that is not done, and what is known of each. Locks
-- nothing: what is to be composed is asked again once it is locked.
SELECT a.object_id AS id, a.narinfo_id, o.stored_at IS NOT NULL AS published,
       o.claimed_at IS NOT NULL AS claimed, p.stored_at IS NOT NULL AS path_published,
       -- what is recorded of it is what it shall be: of this path, or naming a NAR that is there
       CASE WHEN o.kind = 9
         THEN (SELECT true FROM refs r JOIN objects n ON n.id = r.dst
               WHERE r.src = o.id AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL LIMIT 1)
         ELSE (SELECT true FROM attachments t
               WHERE t.object_id = o.id AND t.narinfo_id = a.narinfo_id LIMIT 1) END IS NOT NULL AS composed,
       -- a realisation of another path
       CASE WHEN o.kind IN (7, 8)
         THEN (SELECT true FROM refs r WHERE r.dst = o.id AND r.src <> a.narinfo_id LIMIT 1) END IS NOT NULL AS others,
       o.writable_until IS NULL OR o.writable_until < now() AS quiet
FROM (
  SELECT * FROM upload_attachments
  WHERE upload = $1 AND NOT done
    AND level = (SELECT level FROM upload_attachments WHERE upload = $1 AND NOT done ORDER BY level LIMIT 1)
  ORDER BY object_id LIMIT $2
) a
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = a.object_id LIMIT 1) o
LEFT JOIN LATERAL (SELECT * FROM objects p WHERE p.id = a.narinfo_id LIMIT 1) p ON true
ORDER BY a.object_id
