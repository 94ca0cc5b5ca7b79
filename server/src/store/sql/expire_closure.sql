-- $1 closure
WITH gone AS (
  DELETE FROM closures WHERE object_id = $1 RETURNING object_id
)
INSERT INTO candidates SELECT object_id FROM gone ON CONFLICT DO NOTHING
