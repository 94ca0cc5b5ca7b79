-- $1 upload, $2 objects: the logs among them that are stored are those of all outputs of their derivations
UPDATE upload_paths p SET log_id = l.id
FROM (
  SELECT l.id, q.ctid FROM unnest($2::bigint[]) AS i(id)
  CROSS JOIN LATERAL (
    SELECT l.id, l.describes FROM objects l
    WHERE l.id = i.id AND l.kind = 6 AND l.stored_at IS NOT NULL LIMIT 1) l
  CROSS JOIN LATERAL (
    SELECT q.ctid FROM upload_paths q WHERE q.deriver = l.describes AND q.upload = $1 AND q.has_log) q
) l
WHERE p.ctid = l.ctid
