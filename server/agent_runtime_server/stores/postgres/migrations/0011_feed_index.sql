-- Feeds over all sessions read commits in their order. A BRIN index says too little for that: it cannot give an order,
-- its ranges grow wide where compaction has made room, and planners go over all sessions of a tenant instead. Numbers of
-- transactions only grow and repeat, so this one is small and cheap to add to.

DROP INDEX session_events_commits;
CREATE INDEX session_events_commits ON session_events (commit_xid);
