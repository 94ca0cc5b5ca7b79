-- $1 narinfos: realisations in the bucket that say that an output is one of these paths, and which one. By what
-- is recorded of them: a narinfo that is void refers to none any more.
SELECT o.id, a.narinfo_id FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (
  SELECT a.object_id, a.narinfo_id FROM attachments a WHERE a.narinfo_id = i.id OFFSET 0) a
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = a.object_id LIMIT 1) o
WHERE o.kind IN (7, 8) AND o.stored_at IS NOT NULL
