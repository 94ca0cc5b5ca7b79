-- $1 seconds without a sign of life: uploads that would fail, and those that have ended and still hold
SELECT number, state = 0 AS open FROM uploads u
WHERE (state = 0 AND called_at < now() - make_interval(secs => $1) AND expires_at < now())
   OR (state <> 0 AND (SELECT true FROM holds h WHERE h.upload = u.number LIMIT 1))
