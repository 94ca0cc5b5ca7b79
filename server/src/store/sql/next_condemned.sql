-- $1 below which one, $2 how many, $3 seconds of grace: a page of what may be deleted, referrers mostly
-- before what they refer to. Only a look: the claim asks again.
SELECT id FROM objects
WHERE condemned_at IS NOT NULL AND id < $1 AND claimed_at IS NULL
  AND condemned_at <= now() - make_interval(secs => $3)
ORDER BY id DESC LIMIT $2
