-- Appends and claims of the same approval wait for each other, an abandoned step is never taken for a whole one, and
-- approvals of any state are listed without sorting all of a tenant's.

CREATE INDEX approvals_newest ON approvals (tenant, create_time DESC, approval_id DESC);

-- Appends to many sessions in one transaction. An item whose frame is known answers 'duplicate'; one whose head
-- or lease epoch has moved answers 'conflict'; neither writes anything. At most one item a session.
CREATE OR REPLACE FUNCTION append_events(
    p_replica bigint, p_lease interval,
    s_id text[], s_head bigint[], s_epoch bigint[], s_new_head bigint[], s_state smallint[], s_summary bytea[],
    s_runnable boolean[], s_deadline timestamptz[], s_lease smallint[], -- lease: 0 keep, 1 acquire, 2 release
    e_session text[], e_seq bigint[], e_kind smallint[], e_payload bytea[],
    f_session text[], f_scope text[], f_id text[], f_digest bytea[], f_seq bigint[],
    a_session text[], a_id text[], a_before bigint[], a_agent text[], a_risk smallint[], a_state smallint[],
    a_revision bigint[], a_payload bytea[]
) RETURNS TABLE (o_session text, o_outcome text, o_epoch bigint, o_mine boolean, o_seq bigint, o_digest bytea)
LANGUAGE plpgsql AS $$
DECLARE
    won text[];
    known text[];
BEGIN
    -- One order for everybody, so that batches never deadlock.
    PERFORM 1 FROM sessions WHERE session_id = ANY (s_id) ORDER BY session_id FOR UPDATE;
    -- A claim must come before an append looks at revisions or after it, else both make the same next one.
    PERFORM 1 FROM approvals WHERE approval_id = ANY (a_id) ORDER BY approval_id FOR UPDATE;

    SELECT coalesce(array_agg(i.session), '{}') INTO known
    FROM unnest(f_session, f_scope, f_id) AS i (session, scope, id)
    JOIN frames f ON f.scope = i.scope AND f.frame_id = i.id;

    SELECT coalesce(array_agg(i.id), '{}') INTO won
    FROM unnest(s_id, s_head, s_epoch) AS i (id, head, epoch)
    JOIN sessions s ON s.session_id = i.id
    WHERE s.head_seq = i.head
      AND (i.epoch IS NULL OR (i.epoch = s.lease_epoch AND s.lease_owner = p_replica))
      AND i.id <> ALL (known)
      AND NOT EXISTS (
          SELECT 1 FROM unnest(a_session, a_id, a_before) AS a (session, id, before)
          JOIN approvals p ON p.approval_id = a.id
          WHERE a.session = i.id AND p.revision <> a.before);

    INSERT INTO session_events (session_id, seq, kind, payload)
    SELECT e.session, e.seq, e.kind, e.payload
    FROM unnest(e_session, e_seq, e_kind, e_payload) AS e (session, seq, kind, payload)
    JOIN unnest(won) AS w (id) ON w.id = e.session;

    INSERT INTO frames (scope, frame_id, digest, seq)
    SELECT f.scope, f.id, f.digest, f.seq
    FROM unnest(f_session, f_scope, f_id, f_digest, f_seq) AS f (session, scope, id, digest, seq)
    JOIN unnest(won) AS w (id) ON w.id = f.session;

    INSERT INTO approvals (approval_id, session_id, tenant, agent_id, risk, state, revision, payload)
    SELECT a.id, a.session, s.tenant, a.agent, a.risk, a.state, a.revision, a.payload
    FROM unnest(a_session, a_id, a_agent, a_risk, a_state, a_revision, a_payload)
        AS a (session, id, agent, risk, state, revision, payload)
    JOIN unnest(won) AS w (id) ON w.id = a.session
    JOIN sessions s ON s.session_id = a.session
    ON CONFLICT (approval_id) DO UPDATE
    SET state = excluded.state, revision = excluded.revision, payload = excluded.payload,
        commit_xid = excluded.commit_xid;

    UPDATE sessions s
    SET head_seq = i.new_head, state = i.state, summary = i.summary, runnable = i.runnable,
        next_deadline = i.deadline, update_time = now(),
        lease_epoch = s.lease_epoch + CASE WHEN i.take THEN 1 ELSE 0 END,
        lease_owner = CASE WHEN i.take THEN p_replica WHEN i.lease = 2 THEN NULL ELSE s.lease_owner END,
        lease_until = CASE WHEN i.take THEN now() + p_lease WHEN i.lease = 2 THEN NULL ELSE s.lease_until END
    FROM (
        -- What was let go of in the middle of a step (no owner, but a time) is for a sweeper to take, which says so.
        SELECT u.*, u.lease = 1 AND (h.lease_owner = p_replica OR h.lease_owner IS NULL AND h.lease_until IS NULL)
            AS take
        FROM unnest(s_id, s_new_head, s_state, s_summary, s_runnable, s_deadline, s_lease)
            AS u (id, new_head, state, summary, runnable, deadline, lease)
        JOIN unnest(won) AS w (id) ON w.id = u.id
        JOIN sessions h ON h.session_id = u.id
    ) AS i
    WHERE s.session_id = i.id;

    RETURN QUERY
    SELECT s.session_id,
           CASE WHEN s.session_id = ANY (won) THEN 'done'
                WHEN f.frame_id IS NOT NULL THEN 'duplicate' ELSE 'conflict' END,
           s.lease_epoch, coalesce(s.lease_owner = p_replica, false), f.seq, f.digest
    FROM sessions s
    LEFT JOIN unnest(f_session, f_scope, f_id) AS i (session, scope, id) ON i.session = s.session_id
    LEFT JOIN frames f ON f.scope = i.scope AND f.frame_id = i.id
    WHERE s.session_id = ANY (s_id);
END
$$;
