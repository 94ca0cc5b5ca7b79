-- $1 how many rows. Only rows that are there are touched: whoever counts meanwhile inserts others, and waits
-- for nobody. What another compaction has in hand is left to it. A single row is as short as it gets.
WITH gone AS (
  DELETE FROM count_changes c
  WHERE c.ctid = ANY (ARRAY(SELECT ctid FROM count_changes LIMIT $1 FOR UPDATE SKIP LOCKED))
    AND (SELECT count(*) FROM (SELECT FROM count_changes LIMIT 2) few) > 1
  RETURNING objects, bytes
), added AS (
  INSERT INTO count_changes
  SELECT sum(objects)::bigint, sum(bytes)::bigint FROM gone HAVING count(*) > 0
)
SELECT count(*) FROM gone
