-- Turns that wait for a model, so that any replica finds them without reading logs.
--
-- A hint beside the log: a row is made in the transaction that parks a turn, and stays until a replica has seen that
-- nothing is parked up to its seq.
CREATE TABLE parked_turns (
    session_id text PRIMARY KEY REFERENCES sessions ON DELETE CASCADE,
    seq        bigint NOT NULL,                     -- of the event that parked it
    look_time  timestamptz NOT NULL DEFAULT now()   -- before which nobody looks at it again
);
CREATE INDEX parked_turns_look ON parked_turns (look_time);

CREATE FUNCTION note_parked_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO parked_turns (session_id, seq) VALUES (NEW.session_id, NEW.seq)
    ON CONFLICT (session_id) DO UPDATE SET seq = excluded.seq, look_time = excluded.look_time;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_parked_turn AFTER INSERT ON session_events
FOR EACH ROW WHEN (NEW.kind = 31) EXECUTE FUNCTION note_parked_turn();  -- 31: turn_parked
