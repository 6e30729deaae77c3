-- The plans of an append's statements are made once for a connection: making them for each batch anew took a third of a
-- small one's time. They go by the indexes, however small a table was when they were made.
ALTER FUNCTION append_events
    SET plan_cache_mode TO force_generic_plan
    SET enable_seqscan TO off
    SET enable_hashjoin TO off
    SET enable_mergejoin TO off;
