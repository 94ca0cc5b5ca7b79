-- $1 below which one, $2 how many. The highest first: referrers mostly have higher ids than what they refer
-- to, so an object is asked about when all of its referrers have been.
-- A statement of its own: what is taken here may become a candidate again in the next.
DELETE FROM candidates
WHERE object_id = ANY (ARRAY(
  SELECT object_id FROM candidates WHERE object_id < $1 ORDER BY object_id DESC LIMIT $2))
RETURNING object_id
