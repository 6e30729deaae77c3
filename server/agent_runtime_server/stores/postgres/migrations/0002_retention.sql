-- What is kept of a session, and for how long.

-- The folded state of a session at a seq. The base stands right before the oldest event that is left; the latest saves
-- folding from there. No foreign key: its lock would wait for, and hold up, appends.
CREATE TABLE session_snapshots (
    session_id   text NOT NULL,
    fold_version integer NOT NULL,
    seq          bigint NOT NULL,
    base         boolean NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (session_id, fold_version, seq)
);
-- Only sessions with a late snapshot can be too long.
CREATE INDEX session_snapshots_length ON session_snapshots (seq) WHERE NOT base;

-- The last commit of which compaction has removed an event: who follows all sessions of a tenant from before it has
-- missed something.
CREATE TABLE feed_horizons (
    tenant text PRIMARY KEY,
    xid    bigint NOT NULL
);

-- Work that one replica does at a time for all of them.
CREATE TABLE rounds (
    name      text PRIMARY KEY,
    next_time timestamptz NOT NULL
);

-- None of these changes with an append, so appends stay in place (HOT).
CREATE INDEX sessions_expiry ON sessions (expire_time) WHERE expire_time IS NOT NULL;
CREATE INDEX sessions_age ON sessions (create_time);
-- A session that is being removed belongs to nobody, so that no read finds it.
CREATE INDEX sessions_removed ON sessions (session_id) WHERE tenant = '';
CREATE INDEX frames_of_reviewers ON frames (create_time) WHERE scope LIKE 'reviewer/%';

-- Removes the events from p_from, the oldest, up to p_cut, in one transaction with the snapshot that stands for them.
-- False when others are at it or have done it, or when a feed over all sessions may not have passed them yet.
CREATE FUNCTION compact_session(p_session text, p_from bigint, p_cut bigint, p_fold integer, p_bytes bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    horizon bigint;
BEGIN
    PERFORM 1 FROM session_events WHERE session_id = p_session AND seq = p_from FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR EXISTS (
        SELECT FROM session_events WHERE session_id = p_session AND seq = p_cut - 1
        AND commit_xid >= (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint) THEN
        RETURN false;
    END IF;

    WITH gone AS (
        DELETE FROM session_events WHERE session_id = p_session AND seq >= p_from AND seq < p_cut RETURNING commit_xid)
    SELECT max(commit_xid) INTO horizon FROM gone;

    INSERT INTO feed_horizons AS h (tenant, xid) SELECT tenant, horizon FROM sessions WHERE session_id = p_session
    ON CONFLICT (tenant) DO UPDATE SET xid = greatest(h.xid, excluded.xid);

    DELETE FROM session_snapshots WHERE session_id = p_session AND seq < p_cut - 1;
    INSERT INTO session_snapshots (session_id, fold_version, seq, base, bytes)
    VALUES (p_session, p_fold, p_cut - 1, true, p_bytes)
    ON CONFLICT (session_id, fold_version, seq) DO UPDATE SET base = true, bytes = excluded.bytes;

    -- Last, for appends wait for this row.
    UPDATE sessions SET oldest_seq = p_cut WHERE session_id = p_session;
    RETURN true;
END
$$;

-- Removes up to p_most rows of a session that belongs to nobody; true when nothing of it is left, or others are at it.
CREATE FUNCTION remove_session(p_session text, p_most integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    removed integer;
    total integer := 0;
BEGIN
    PERFORM 1 FROM sessions WHERE session_id = p_session AND tenant = '' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN true;
    END IF;

    DELETE FROM session_events WHERE session_id = p_session AND seq IN (
        SELECT seq FROM session_events WHERE session_id = p_session ORDER BY seq LIMIT p_most);
    GET DIAGNOSTICS removed = ROW_COUNT;
    total := total + removed;

    DELETE FROM frames WHERE scope = p_session AND frame_id IN (
        SELECT frame_id FROM frames WHERE scope = p_session LIMIT p_most - total);
    GET DIAGNOSTICS removed = ROW_COUNT;
    total := total + removed;

    DELETE FROM approvals WHERE approval_id IN (
        SELECT approval_id FROM approvals WHERE session_id = p_session LIMIT p_most - total);
    GET DIAGNOSTICS removed = ROW_COUNT;
    total := total + removed;

    IF total >= p_most THEN
        RETURN false;
    END IF;
    DELETE FROM session_snapshots WHERE session_id = p_session;
    DELETE FROM sessions WHERE session_id = p_session;
    RETURN true;
END
$$;
