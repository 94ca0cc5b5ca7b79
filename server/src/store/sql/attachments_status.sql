-- $1 keys of narinfos, $2 keys of attachments of them, in the same order. A realisation that belongs to another
-- path is not lacking: it stays what it is as long as that path does.
SELECT a.id, coalesce(a.condemned_at IS NOT NULL, false) AS condemned,
       coalesce(a.claimed_at IS NOT NULL, false) AS claimed,
       a.stored_at IS NULL OR a.claimed_at IS NOT NULL
         OR ((SELECT true FROM refs r WHERE r.src = o.id AND r.dst = a.id LIMIT 1) IS NULL
             AND CASE WHEN a.kind IN (7, 8)
                 THEN (SELECT true FROM refs r WHERE r.dst = a.id LIMIT 1) END IS NULL) AS lacking
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(narinfo, key, n)
LEFT JOIN LATERAL (SELECT * FROM objects a WHERE a.key = k.key LIMIT 1) a ON true
LEFT JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.narinfo LIMIT 1) o ON true
ORDER BY k.n
