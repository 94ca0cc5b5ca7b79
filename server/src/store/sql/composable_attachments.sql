-- $1 upload, $2 attachments, locked by us: what they will be composed of, unless somebody did just before
SELECT o.id, o.key, a.narinfo_id, a.signatures, a.dependencies, n.store_path, n.nar_id, d.key AS nar_key
FROM unnest($2::bigint[]) AS i(id)
CROSS JOIN LATERAL (
  SELECT * FROM upload_attachments a WHERE a.upload = $1 AND a.object_id = i.id LIMIT 1) a
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = i.id LIMIT 1) o
CROSS JOIN LATERAL (SELECT * FROM narinfos n WHERE n.object_id = a.narinfo_id LIMIT 1) n
CROSS JOIN LATERAL (SELECT d.key FROM objects d WHERE d.id = n.nar_id LIMIT 1) d
WHERE (o.writable_until IS NULL OR o.writable_until < now())
  AND CASE WHEN o.kind = 9
    THEN (SELECT true FROM refs r JOIN objects c ON c.id = r.dst
          WHERE r.src = o.id AND c.stored_at IS NOT NULL AND c.claimed_at IS NULL LIMIT 1)
    ELSE coalesce(
      (SELECT true FROM refs r WHERE r.dst = o.id AND r.src <> a.narinfo_id LIMIT 1),
      (SELECT true FROM attachments t WHERE t.object_id = o.id AND t.narinfo_id = a.narinfo_id LIMIT 1)) END IS NULL
