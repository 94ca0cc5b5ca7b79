-- $1 after which one, $2 how many: uploads that have ended and still hold something, or of which something
-- is still written down
SELECT u.number FROM uploads u
WHERE u.state <> 0 AND u.number > $1
  AND ((SELECT true FROM holds h WHERE h.upload = u.number LIMIT 1)
       OR (SELECT true FROM upload_paths p WHERE p.upload = u.number LIMIT 1)
       OR (SELECT true FROM upload_attachments a WHERE a.upload = u.number LIMIT 1))
ORDER BY u.number LIMIT $2
