-- $1 token, $2 objects of that claim that are not in the bucket any more. One whose claim has lapsed is
-- somebody else's. Answers how many rows went, the bytes that were freed, and what is garbage of what they
-- referred to: nothing may refer to that any more. What lives is left out, or a claim would look at all of
-- a cache's core for each batch, with the gate closed.
WITH gone AS (
  DELETE FROM objects o WHERE o.id = ANY ($2) AND o.claim = $1
  RETURNING o.id, CASE WHEN o.stored_at IS NULL THEN 0 ELSE coalesce(o.size, 0) END AS bytes
), unlinked AS (
  DELETE FROM refs r WHERE r.src = ANY (ARRAY(SELECT id FROM gone)) RETURNING r.dst
), unrealised AS (
  -- Only realisations go while something refers to them: the path that they were of may go now.
  DELETE FROM refs r WHERE r.dst = ANY (ARRAY(SELECT id FROM gone)) RETURNING r.src
), said AS (
  DELETE FROM attachments a WHERE a.object_id = ANY (ARRAY(SELECT id FROM gone))
), forgotten AS (
  DELETE FROM narinfos n WHERE n.object_id = ANY (ARRAY(SELECT id FROM gone))
), unasked AS (
  DELETE FROM candidates c WHERE c.object_id = ANY (ARRAY(SELECT id FROM gone))
)
SELECT count(*), coalesce(sum(bytes), 0)::bigint,
       coalesce((SELECT array_agg(f.dst) FROM (SELECT dst FROM unlinked UNION SELECT src FROM unrealised) f
                 WHERE (SELECT o.condemned_at FROM objects o WHERE o.id = f.dst LIMIT 1) IS NOT NULL), '{}')
FROM gone
