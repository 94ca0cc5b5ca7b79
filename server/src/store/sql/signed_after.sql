-- $1 an id, $2 how many: narinfos and realisations above it, with what is recorded of each
WITH page AS MATERIALIZED (
  (SELECT n.object_id AS id, n.narinfo AS text, n.version FROM narinfos n
   WHERE n.object_id > $1 ORDER BY n.object_id LIMIT $2)
  UNION ALL
  -- debug info is among these, and is left out below: a page is never empty before the end
  (SELECT a.object_id, a.text, a.version FROM attachments a WHERE a.object_id > $1 ORDER BY a.object_id LIMIT $2)
  ORDER BY 1 LIMIT $2
)
SELECT p.id, o.key, p.text, p.version, coalesce(o.kind IN (1, 7, 8), false) AS signed
FROM page p LEFT JOIN LATERAL (SELECT o.key, o.kind FROM objects o WHERE o.id = p.id LIMIT 1) o ON true
ORDER BY p.id
