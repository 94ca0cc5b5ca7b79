-- $1 NARs that are lost: what was composed with them is void, and is composed anew by whoever pushes
-- these paths next. What those paths referred to may be garbage now.
WITH n AS MATERIALIZED (
  SELECT n.object_id FROM unnest($1::bigint[]) AS i(id)
  CROSS JOIN LATERAL (SELECT r.src FROM refs r WHERE r.dst = i.id) r
  CROSS JOIN LATERAL (
    SELECT n.object_id FROM narinfos n
    WHERE n.object_id = r.src AND n.nar_id = i.id LIMIT 1) n
), locked AS MATERIALIZED (
  SELECT o.id FROM objects o WHERE o.id = ANY (ARRAY(SELECT object_id FROM n))
  ORDER BY o.id FOR NO KEY UPDATE OF o
), forgotten AS (
  DELETE FROM narinfos n WHERE n.object_id = ANY (ARRAY(SELECT id FROM locked))
), unlinked AS (
  -- Not those to other narinfos: a closure that has lost a NAR still needs all the rest, and a push that
  -- composes the path anew says what it refers to then.
  DELETE FROM refs r WHERE r.ctid = ANY (ARRAY(
    SELECT r.ctid FROM locked l CROSS JOIN LATERAL (SELECT r.ctid, r.dst FROM refs r WHERE r.src = l.id) r
    WHERE (SELECT o.kind FROM objects o WHERE o.id = r.dst LIMIT 1) <> 1))
  RETURNING r.dst
), noted AS (
  INSERT INTO candidates SELECT DISTINCT dst FROM unlinked ORDER BY dst ON CONFLICT DO NOTHING
)
UPDATE objects o SET stored_at = NULL WHERE o.id = ANY (ARRAY(SELECT id FROM locked))
RETURNING o.id
