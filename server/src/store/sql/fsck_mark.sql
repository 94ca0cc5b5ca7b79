-- What is needed, then what garbage collection will ask about: each with all that it refers to. Level by
-- level, since a recursive query keeps all that it has met in memory, whatever work_mem says. EXECUTE: each
-- level is planned for its own size.
DO $$
DECLARE
  asked boolean;
  met bigint;
BEGIN
  FOREACH asked IN ARRAY ARRAY[false, true] LOOP
    IF asked THEN
      INSERT INTO fsck_next SELECT object_id FROM candidates;
    ELSE
      INSERT INTO fsck_next
      SELECT object_id FROM closures
      UNION SELECT object_id FROM pins WHERE object_id IS NOT NULL
      UNION SELECT filed FROM pins WHERE filed IS NOT NULL
      UNION SELECT object_id FROM holds;
    END IF;
    EXECUTE 'WITH met AS (
        INSERT INTO fsck_reached SELECT id, $1 FROM fsck_next ON CONFLICT DO NOTHING RETURNING id)
      INSERT INTO fsck_front SELECT id FROM met' USING NOT asked;
    LOOP
      TRUNCATE fsck_next;
      EXECUTE 'WITH met AS (
          INSERT INTO fsck_reached
          SELECT r.dst, $1 FROM fsck_front f JOIN refs r ON r.src = f.id
          ON CONFLICT DO NOTHING RETURNING id)
        INSERT INTO fsck_next SELECT id FROM met' USING NOT asked;
      GET DIAGNOSTICS met = ROW_COUNT;
      TRUNCATE fsck_front;
      EXIT WHEN met = 0;
      INSERT INTO fsck_front SELECT id FROM fsck_next;
    END LOOP;
  END LOOP;
END $$;
ANALYZE fsck_reached;
