-- $1 generation, $2 its name, $3 system, $4 timeline, $5 database: it is in the bucket. Only if nothing else was
-- written down since it was named: a collector that was paused may have lost its lock to another.
UPDATE identity SET generation = $1::bigint, generation_name = $2, next_name = NULL
WHERE generation = $1::bigint - 1 AND next_name = $2 AND system = $3 AND timeline = $4 AND database = $5
