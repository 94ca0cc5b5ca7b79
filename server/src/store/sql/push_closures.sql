-- $1 narinfos. In order, so that two pushes of the same roots wait for each other in one order.
-- What was counted of a closure may have been lost, and be there anew.
INSERT INTO closures (object_id, pushed_at)
SELECT DISTINCT id, now() FROM unnest($1::bigint[]) AS r(id) ORDER BY id
ON CONFLICT (object_id) DO UPDATE
SET pushed_at = greatest(closures.pushed_at, excluded.pushed_at), paths = NULL, bytes = NULL
