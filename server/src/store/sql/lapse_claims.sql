-- $1 how many: claims of which no request can be under way any more. Whether the objects are still in the
-- bucket nobody knows: they count as not stored, and stay garbage with all that they refer to.
UPDATE objects SET claimed_at = NULL, claim = NULL, claim_until = NULL, stored_at = NULL
WHERE id = ANY (ARRAY(
  SELECT id FROM objects WHERE claimed_at IS NOT NULL AND claim_until < now()
  ORDER BY id LIMIT $1
  FOR NO KEY UPDATE SKIP LOCKED))
