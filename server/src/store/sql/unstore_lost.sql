-- $1 objects, $2 since when they were said to be stored: those of them that were not sent again since.
-- Locked in one order: two that find the same ones lost do not dead-lock.
WITH l AS MATERIALIZED (
  SELECT o.id FROM unnest($1::bigint[], $2::bigint[]) AS i(id, stored)
  CROSS JOIN LATERAL (
    SELECT o.id FROM objects o
    WHERE o.id = i.id AND o.claimed_at IS NULL
      AND (extract(epoch FROM o.stored_at) * 1000000)::bigint = i.stored LIMIT 1) o
), locked AS MATERIALIZED (
  SELECT o.id FROM objects o WHERE o.id = ANY (ARRAY(SELECT id FROM l))
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE objects o SET stored_at = NULL WHERE o.id = ANY (ARRAY(SELECT id FROM locked))
RETURNING o.id
