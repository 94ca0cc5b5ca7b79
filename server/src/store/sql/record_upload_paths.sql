INSERT INTO upload_paths (upload, object_id, store_path, nar_hash, nar_size, deriver, ca,
                          signatures, refs, ref_paths, level, has_log)
SELECT $1, id, store_path, nar_hash, nar_size, deriver, ca, signatures, refs::bigint[], ref_paths, level, has_log
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::int[], $12::boolean[])
  AS p(id, store_path, nar_hash, nar_size, deriver, ca, signatures, refs, ref_paths, level, has_log)
ON CONFLICT (upload, object_id) DO NOTHING
