-- $1 keys of narinfos, $2 keys of their listings, $3 keys of their logs or NULL, in the same order
-- LATERAL with LIMIT 1: `key = ANY($1)` reads the whole table from some thousand keys on.
SELECT o.id,
       coalesce(o.stored_at IS NOT NULL, false) AS published,
       coalesce(o.condemned_at IS NOT NULL, false) AS condemned,
       coalesce(o.claimed_at IS NOT NULL, false) AS claimed,
       n.nar_hash,
       NOT coalesce(n.no_listing, false)
         AND coalesce(l.id IS NULL OR l.stored_at IS NULL
              -- one that is stored and not attached: of these contents, or not ours to replace
              OR ((SELECT true FROM refs r WHERE r.src = o.id AND r.dst = l.id LIMIT 1) IS NULL
                  AND (n.nar_hash IS NULL OR l.describes = n.nar_hash)), false) AS lacks_listing,
       k.log IS NOT NULL
         AND (g.id IS NULL OR g.stored_at IS NULL
              OR (SELECT true FROM refs r WHERE r.src = o.id AND r.dst = g.id LIMIT 1) IS NULL) AS lacks_log
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k(key, listing, log, n)
LEFT JOIN LATERAL (SELECT * FROM objects o WHERE o.key = k.key LIMIT 1) o ON true
LEFT JOIN LATERAL (SELECT * FROM narinfos n WHERE n.object_id = o.id LIMIT 1) n ON true
LEFT JOIN LATERAL (SELECT * FROM objects l WHERE l.key = k.listing LIMIT 1) l ON true
LEFT JOIN LATERAL (SELECT * FROM objects g WHERE g.key = k.log LIMIT 1) g ON true
ORDER BY k.n
