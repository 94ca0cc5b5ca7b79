-- $1 after which one, $2 how many: multipart uploads of pushes that have ended, or that have given no sign
-- of life for so long that no URL of theirs is good any more; and nobody can write a part of any of them
SELECT m.object_id AS id, m.key, m.s3_id
FROM multiparts m
WHERE m.object_id > $1
  AND (SELECT true FROM uploads u WHERE u.number = m.upload AND u.state = 0 AND u.expires_at > now()
       LIMIT 1) IS NULL
  AND (SELECT true FROM objects o WHERE o.id = m.object_id AND o.writable_until > now() LIMIT 1) IS NULL
ORDER BY m.object_id LIMIT $2
