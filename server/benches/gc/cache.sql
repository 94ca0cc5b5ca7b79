-- A cache that nobody has pushed: for scripts/bench gc, and for the test of the query plans.
--
-- A path is a narinfo, a NAR and a listing. A block is a closure of 500 paths of its own, some 40 levels
-- deep, which share a core of 1,000 paths; ids as a push gives them: all narinfos, references first, then
-- NARs, then listings. Every narinfo has five references besides its NAR and its listing: one to a path of
-- its block, 58 of 100 have one to path 1, the glibc of this cache, the rest are to the core.
CREATE SCHEMA bench;

CREATE FUNCTION bench.hash(a bigint, seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT hashint8extended(a, seed) & 9223372036854775807 $$;
-- 32 characters of Nix's base 32, which has no e.
CREATE FUNCTION bench.name(id bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT translate(md5(id::text), 'e', 'z') $$;
CREATE FUNCTION bench.nar_hash(id bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT '1' || bench.name(-id) || left(bench.name(id), 19) $$;

-- Objects and narinfos of `count` blocks of `paths` paths.
CREATE FUNCTION bench.add_paths(base bigint, count bigint, paths bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO objects (id, key, kind, size, sha256, checksum, writer, describes, stored_at)
  SELECT b + n,
         CASE (n - 1) / paths
           WHEN 0 THEN bench.name(b + n) || '.narinfo'
           WHEN 1 THEN 'nar/' || bench.nar_hash(b + n - paths) || '-' || left(bench.name(b + n), 24) || '.nar.zst'
           ELSE bench.name(b + n - 2 * paths) || '.ls' END,
         1 + (n - 1) / paths,
         CASE (n - 1) / paths WHEN 1 THEN 1000 + bench.hash(b + n, 1) % 400000 ELSE 600 END,
         CASE (n - 1) / paths WHEN 1 THEN sha256(int8send(b + n)) END,
         CASE (n - 1) / paths WHEN 0 THEN NULL ELSE decode(md5(n::text), 'hex') END,
         CASE (n - 1) / paths WHEN 0 THEN NULL ELSE 1 END,
         CASE (n - 1) / paths WHEN 2 THEN bench.nar_hash(b + n - 2 * paths) END,
         now() - interval '1 year'
  FROM generate_series(base, base + (count - 1) * 1500, 1500) AS b,
       generate_series(1, 3 * paths) AS n;
  INSERT INTO narinfos (object_id, store_path, nar_hash, nar_id, narinfo)
  SELECT b + i, bench.name(b + i) || '-path-' || i, bench.nar_hash(b + i), b + paths + i,
         repeat('Some line: of a signed text' || chr(10), 20)
  FROM generate_series(base, base + (count - 1) * 1500, 1500) AS b, generate_series(1, paths) AS i;
$$;

CREATE FUNCTION bench.add_core() RETURNS void LANGUAGE sql AS $$
  SELECT bench.add_paths(0, 1, 1000);
  INSERT INTO refs
  SELECT DISTINCT i, dst FROM generate_series(1, 1000) AS i
  CROSS JOIN LATERAL (
    SELECT 1000 + i AS dst UNION ALL SELECT 2000 + i UNION ALL SELECT 1 WHERE i > 1
    UNION ALL SELECT 1 + bench.hash(i, j) % (i - 1) FROM generate_series(1, 4) AS j WHERE i > 1) r
  ORDER BY 1, 2;
$$;

-- Blocks from `first` on. All of their paths also need `hot`, if there is one.
CREATE FUNCTION bench.add_blocks(first bigint, count bigint, pushed timestamptz, hot bigint)
RETURNS void LANGUAGE sql AS $$
  SELECT bench.add_paths(3000 + first * 1500, count, 500);
  INSERT INTO refs
  SELECT b + i, dst
  FROM generate_series(3000 + first * 1500, 3000 + (first + count - 1) * 1500, 1500) AS b,
       generate_series(1, 500) AS i
  CROSS JOIN LATERAL (
    SELECT b + 500 + i AS dst UNION ALL SELECT b + 1000 + i
    UNION ALL SELECT hot WHERE hot IS NOT NULL
    -- Each path but the last is needed by one that comes up to 25 paths after it.
    UNION ALL SELECT b + k FROM generate_series(greatest(1, i - 25), i - 1) AS k
              WHERE least(500, k + 1 + bench.hash(b + k, 2) % 25) = i
    UNION ALL SELECT 1 WHERE bench.hash(b + i, 3) % 100 < 58
    UNION ALL SELECT 2 + 249 * j + bench.hash(b + i, 4 + j) % 249 FROM generate_series(0, 3) AS j
              WHERE j < 3 OR bench.hash(b + i, 3) % 100 >= 58) r
  ORDER BY 1, 2;
  INSERT INTO closures (object_id, pushed_at)
  SELECT b + 500, pushed
  FROM generate_series(3000 + first * 1500, 3000 + (first + count - 1) * 1500, 1500) AS b;
$$;

-- One path that nothing needs yet, in the place of a block. Answers its narinfo.
CREATE FUNCTION bench.add_hot(block bigint) RETURNS bigint LANGUAGE sql AS $$
  SELECT bench.add_paths(3000 + block * 1500, 1, 1);
  INSERT INTO refs SELECT 3001 + block * 1500, 3001 + block * 1500 + n FROM generate_series(1, 2) AS n;
  SELECT 3001 + block * 1500;
$$;

-- Indexes and constraints are taken away, and made again from what they were.
CREATE TABLE bench.indexes (place bigint GENERATED ALWAYS AS IDENTITY, away text, back text);
CREATE FUNCTION bench.begin_load() RETURNS void LANGUAGE plpgsql AS $$
DECLARE row record;
BEGIN
  INSERT INTO bench.indexes (away, back)
  SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
         format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint
  WHERE conrelid IN ('objects'::regclass, 'refs'::regclass, 'narinfos'::regclass, 'closures'::regclass)
    AND contype IN ('p', 'u')
  UNION ALL
  SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
  FROM pg_index i
  WHERE indrelid IN ('objects'::regclass, 'refs'::regclass, 'narinfos'::regclass, 'closures'::regclass)
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid);
  FOR row IN SELECT * FROM bench.indexes ORDER BY place LOOP EXECUTE row.away; END LOOP;
  ALTER TABLE objects DISABLE TRIGGER USER;
END $$;
CREATE FUNCTION bench.end_load() RETURNS void LANGUAGE plpgsql AS $$
DECLARE row record;
BEGIN
  FOR row IN SELECT * FROM bench.indexes ORDER BY place LOOP EXECUTE row.back; END LOOP;
  DELETE FROM bench.indexes;
  PERFORM bench.count();
END $$;
-- After a change with the triggers disabled.
CREATE FUNCTION bench.count() RETURNS void LANGUAGE sql AS $$
  ALTER TABLE objects ENABLE TRIGGER USER;
  DELETE FROM count_changes;
  INSERT INTO count_changes SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE stored_at IS NOT NULL;
  SELECT setval(pg_get_serial_sequence('objects', 'id'), max(id)) FROM objects;
$$;
