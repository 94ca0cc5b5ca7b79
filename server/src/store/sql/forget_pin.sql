-- $1 name: it is deleted, its file is gone, and nobody can change that file any more
DELETE FROM pins
WHERE name = $1 AND object_id IS NULL AND filed IS NULL AND writing_until IS NULL
