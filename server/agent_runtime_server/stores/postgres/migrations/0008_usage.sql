-- What was asked of models, by tenant, subject and day (UTC): counted when an answer has come.
--
-- Replicas add what they have counted about once a second; the log says the same of each answer.
CREATE TABLE usage_days (
    tenant              text NOT NULL,
    day                 date NOT NULL,
    subject             text NOT NULL,              -- who gave the turn its task
    input_tokens        bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens    bigint NOT NULL DEFAULT 0,
    model_calls         bigint NOT NULL DEFAULT 0,
    cost_micros         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, day, subject)
);
