-- $1 how many: reasons to live of an object that has no row, and holds and paths of uploads that have none.
-- What an upload says of its paths is forgotten after its holds: of one that has ended, the objects may
-- be gone by then.
SELECT coalesce(o.key, '') AS key, h.id, h.upload AS other
FROM (
  SELECT object_id AS id, NULL::bigint AS upload, true AS live FROM closures
  UNION SELECT object_id, NULL, true FROM pins WHERE object_id IS NOT NULL
  UNION SELECT filed, NULL, true FROM pins WHERE filed IS NOT NULL
  UNION SELECT object_id, NULL, true FROM candidates
  UNION ALL SELECT object_id, upload, true FROM holds
  UNION ALL SELECT object_id, upload, false FROM upload_paths
  UNION ALL SELECT object_id, upload, false FROM upload_attachments) h
LEFT JOIN objects o ON o.id = h.id
LEFT JOIN uploads u ON u.number = h.upload
WHERE (o.id IS NULL AND (h.live OR u.state = 0)) OR (h.upload IS NOT NULL AND u.number IS NULL)
ORDER BY h.id LIMIT $1
