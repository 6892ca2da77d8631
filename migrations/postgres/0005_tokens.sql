-- Who may use the interface. A secret is kept as its SHA-256 only. Times are microseconds since 1970, UTC.
CREATE TABLE tokens (
    id          uuid   NOT NULL,
    secret_hash bytea  NOT NULL,
    scope       text   NOT NULL,
    cluster     text,
    name        text   NOT NULL,
    created_at  bigint NOT NULL,
    expires_at  bigint,
    revoked_at  bigint,
    CONSTRAINT tokens_pk PRIMARY KEY (id),
    CONSTRAINT tokens_secret_once UNIQUE (secret_hash),
    CONSTRAINT tokens_secret_is_sha256 CHECK (length(secret_hash) = 32)
);
