-- $1 name, $2 until when it was taken. Nothing is under way any more: anyone may take it at once. It stays
-- unsure what the file names, since a refusal may have come after the deed.
UPDATE pins SET writing_until = clock_timestamp() WHERE name = $1 AND writing_until = $2
