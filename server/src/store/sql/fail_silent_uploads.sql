-- $1 seconds without a sign of life, $2 how many
-- One whose row is locked is giving a sign of life now. Called by a collector that has no gate, and all
-- the same it must not wait for a push.
UPDATE uploads SET state = 2
WHERE number = ANY (ARRAY(
  SELECT number FROM uploads
  WHERE state = 0 AND called_at < now() - make_interval(secs => $1) AND expires_at < now()
  LIMIT $2
  FOR UPDATE SKIP LOCKED))
RETURNING number
