-- What a run would do is worked out beside the tables that it would change. They go with the transaction.
CREATE TEMPORARY TABLE would_expire (id bigint PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE would_ask (id bigint PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE would_condemn (id bigint PRIMARY KEY) ON COMMIT DROP;
