-- $1 token, $2 objects of that claim that are not in the bucket any more: their rows, and what is recorded of
-- them, stay
UPDATE objects SET claimed_at = NULL, claim = NULL, claim_until = NULL, stored_at = NULL
WHERE id = ANY ($2) AND claim = $1
