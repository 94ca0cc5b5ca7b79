-- $1 name. `unsure`: the file may name either closure. `writing`: somebody may be changing it.
SELECT object_id, store_path, filed, moved_at,
       writing_until IS NOT NULL AS unsure,
       coalesce(writing_until > clock_timestamp(), false) AS writing
FROM pins WHERE name = $1
FOR UPDATE
