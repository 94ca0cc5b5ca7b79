-- $1 objects: those that can be revived now
SELECT id FROM objects WHERE id = ANY ($1) AND condemned_at IS NOT NULL AND claimed_at IS NULL
