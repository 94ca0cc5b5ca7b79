-- $1 token, $2 objects of that claim that are not in the bucket any more: their rows, and what is recorded of
-- them, stay. It has another number from now on: a commit that has sent it before does not note it any more.
WITH narinfo AS (
  UPDATE narinfos SET version = nextval('text_versions') WHERE object_id = ANY ($2)
), attachment AS (
  UPDATE attachments SET version = nextval('text_versions') WHERE object_id = ANY ($2)
)
UPDATE objects SET claimed_at = NULL, claim = NULL, claim_until = NULL, stored_at = NULL
WHERE id = ANY ($2) AND claim = $1
