-- $1 name, $2 until when it was taken: nobody has taken it since. $3 the closure that the file names, NULL:
-- there is no file. $4 whether an earlier request to the same end may still arrive
UPDATE pins
SET filed = $3, writing_until = CASE WHEN $4 THEN writing_until END
WHERE name = $1 AND writing_until = $2
