-- $1 objects, $2 stored before (seconds since 1970): those that were not sent again since
UPDATE objects SET stored_at = NULL
WHERE id = ANY (ARRAY(
  SELECT id FROM objects
  WHERE id = ANY ($1) AND claimed_at IS NULL AND stored_at < to_timestamp($2)
  ORDER BY id FOR NO KEY UPDATE))
RETURNING id
