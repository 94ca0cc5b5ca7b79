-- $1 keys of narinfos: their rows, and all narinfos that refer to them, directly or not. What is being deleted
-- goes anyway.
WITH RECURSIVE asked AS (
  SELECT o.id FROM unnest($1::text[]) AS k(key)
  CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.key LIMIT 1) o
), up(id) AS (
  SELECT id FROM asked
  UNION
  SELECT r.src FROM up JOIN refs r ON r.dst = up.id JOIN objects s ON s.id = r.src WHERE s.kind = 1
)
SELECT o.id, coalesce((SELECT n.store_path FROM narinfos n WHERE n.object_id = o.id LIMIT 1), o.key) AS name,
       (SELECT true FROM asked a WHERE a.id = o.id LIMIT 1) IS NOT NULL AS asked,
       (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NOT NULL AS held,
       coalesce((SELECT p.name FROM pins p WHERE p.object_id = o.id LIMIT 1),
                (SELECT p.name FROM pins p WHERE p.filed = o.id LIMIT 1)) AS pin
FROM up JOIN objects o ON o.id = up.id
ORDER BY o.id
