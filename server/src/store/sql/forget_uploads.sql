-- $1 seconds since the last sign of life, $2 how many: ended uploads of which nothing is left. Until then
-- whoever asks for them is told how they ended.
DELETE FROM uploads
WHERE number = ANY (ARRAY(
  SELECT u.number FROM uploads u
  WHERE u.state <> 0 AND u.called_at < now() - make_interval(secs => $1)
    AND (SELECT true FROM holds h WHERE h.upload = u.number LIMIT 1) IS NULL
    AND (SELECT true FROM upload_paths p WHERE p.upload = u.number LIMIT 1) IS NULL
    AND (SELECT true FROM upload_attachments a WHERE a.upload = u.number LIMIT 1) IS NULL
    AND (SELECT true FROM multiparts m WHERE m.upload = u.number LIMIT 1) IS NULL
  LIMIT $2
  FOR UPDATE SKIP LOCKED))
