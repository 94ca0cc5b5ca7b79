-- $1 key of a narinfo, $2 keys of what it refers to. Locked: nobody composes it meanwhile.
SELECT o.id,
       o.claimed_at IS NOT NULL OR coalesce(o.writable_until >= now(), false)
         OR (SELECT true FROM holds h WHERE h.object_id = o.id LIMIT 1) IS NOT NULL AS busy,
       (SELECT true FROM narinfos n WHERE n.object_id = o.id LIMIT 1) IS NOT NULL AS composed,
       ARRAY(SELECT d.id FROM unnest($2::text[]) AS k(key)
             CROSS JOIN LATERAL (SELECT * FROM objects d WHERE d.key = k.key LIMIT 1) d
             WHERE d.claimed_at IS NULL
               AND (d.is_external
                    OR (d.stored_at IS NOT NULL
                        AND (SELECT true FROM narinfos n WHERE n.object_id = d.id LIMIT 1)))) AS refs
FROM objects o WHERE o.key = $1
FOR NO KEY UPDATE OF o
