-- $1 narinfos and attachments: what is recorded of those that are there
SELECT o.id, o.key, x.text, x.version
FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = i.id LIMIT 1) o
CROSS JOIN LATERAL (
  SELECT n.narinfo AS text, n.version FROM narinfos n WHERE n.object_id = o.id
  UNION ALL
  SELECT a.text, a.version FROM attachments a WHERE a.object_id = o.id
  LIMIT 1) x
ORDER BY o.id
