-- What turns took beside models: tool calls that were asked for, and time, without waiting for humans and models.
ALTER TABLE usage_days
    ADD COLUMN tool_calls    bigint NOT NULL DEFAULT 0,
    ADD COLUMN worked_millis bigint NOT NULL DEFAULT 0;
