-- $1 narinfos and realisations, $2 what was recorded of them when it was read, $3 the same with other signatures
-- Only those that nobody can be writing, and whose row nobody has in hand: a body with the old signatures that is
-- on its way would come after ours. Whoever takes one from here on reads the new text.
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) AS i(id, before, after)
), locked AS MATERIALIZED (
  SELECT o.id, o.stored_at IS NOT NULL AND o.claimed_at IS NULL AS stored FROM objects o
  WHERE o.id = ANY ($1) AND (o.writable_until IS NULL OR o.writable_until < now())
  ORDER BY o.id FOR NO KEY UPDATE SKIP LOCKED
), narinfo AS (
  UPDATE narinfos n SET narinfo = i.after, version = nextval('text_versions') FROM i
  WHERE n.object_id = i.id AND n.narinfo = i.before AND n.object_id = ANY (ARRAY(SELECT id FROM locked))
  RETURNING n.object_id AS id
), attachment AS (
  UPDATE attachments a SET text = i.after, version = nextval('text_versions') FROM i
  WHERE a.object_id = i.id AND a.text = i.before AND a.object_id = ANY (ARRAY(SELECT id FROM locked))
  RETURNING a.object_id AS id
), done AS MATERIALIZED (
  SELECT id FROM narinfo UNION ALL SELECT id FROM attachment
), queued AS (
  -- What is not stored is sent by whoever publishes it.
  INSERT INTO resigned SELECT l.id FROM locked l JOIN done d ON d.id = l.id WHERE l.stored
  ORDER BY l.id ON CONFLICT DO NOTHING
)
-- Who has sent the old text, and has not noted it yet, does not note it for the new one: that has another version.
UPDATE objects o SET writable_until = NULL WHERE o.id = ANY (ARRAY(SELECT id FROM done))
RETURNING o.id
