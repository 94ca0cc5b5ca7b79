-- $1 narinfos that are not published any more: open uploads that had done them have to do them again.
-- Rows that a commit has in hand are left to it, which looks at all of its paths again.
UPDATE upload_paths p SET done = false
WHERE p.ctid = ANY (ARRAY(
  SELECT q.ctid FROM unnest($1::bigint[]) AS i(id)
  CROSS JOIN LATERAL (SELECT h.upload FROM holds h WHERE h.object_id = i.id) h
  JOIN upload_paths q ON q.upload = h.upload AND q.object_id = i.id
  WHERE q.done
  ORDER BY q.upload, q.object_id
  FOR UPDATE OF q SKIP LOCKED))
