-- $1 objects. What another composer has in hand will be composed when we look again.
SELECT o.id FROM objects o
WHERE o.id = ANY ($1)
ORDER BY o.id
FOR NO KEY UPDATE OF o SKIP LOCKED
