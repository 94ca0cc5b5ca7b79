-- $1 how many
DELETE FROM would_ask
WHERE id = ANY (ARRAY(SELECT id FROM would_ask ORDER BY id DESC LIMIT $1))
RETURNING id
