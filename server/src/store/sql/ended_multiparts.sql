-- $1 how many: multipart uploads of pushes that have ended, or that have given no sign of life for so
-- long that no URL of theirs is good any more
SELECT m.object_id AS id, o.key, m.s3_id
FROM multiparts m
CROSS JOIN LATERAL (SELECT o.key FROM objects o WHERE o.id = m.object_id LIMIT 1) o
WHERE (SELECT true FROM uploads u WHERE u.number = m.upload AND u.state = 0 AND u.expires_at > now()
       LIMIT 1) IS NULL
LIMIT $1
