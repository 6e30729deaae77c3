-- API keys: whom they belong to. The secret part of a key is kept as a digest only.

CREATE TABLE api_keys (
    key_id       text PRIMARY KEY,  -- public: it stands in the key itself
    digest       bytea NOT NULL,    -- SHA-256 of the whole key
    tenant       text NOT NULL,
    subject      text NOT NULL,
    display_name text NOT NULL,
    roles        text[] NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT now(),
    expire_time  timestamptz,
    revoke_time  timestamptz
);
CREATE INDEX api_keys_listing ON api_keys (tenant, create_time, key_id);
