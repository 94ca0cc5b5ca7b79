-- The one place that reads whole tables: the pool's settings, which are for small queries by index, are
-- undone. One snapshot, so that pushes and collections under way are seen before or after, never between.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on;
SET LOCAL work_mem = '128MB';
CREATE TEMPORARY TABLE fsck_reached (id bigint PRIMARY KEY, needed boolean NOT NULL) ON COMMIT DROP;
CREATE TEMPORARY TABLE fsck_front (id bigint NOT NULL) ON COMMIT DROP;
CREATE TEMPORARY TABLE fsck_next (id bigint NOT NULL) ON COMMIT DROP;
