-- $1 after which name, $2 how many: pins whose file is not right, or not surely, and that nobody is writing.
-- One without its path was not made by us.
SELECT name FROM pins
WHERE name > $1
  AND (writing_until < now() OR (writing_until IS NULL AND filed IS DISTINCT FROM object_id))
  AND (object_id IS NULL) = (store_path IS NULL)
ORDER BY name LIMIT $2
