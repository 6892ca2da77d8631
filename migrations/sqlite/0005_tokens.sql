-- Who may use the interface. A secret is kept as its SHA-256 only. Times are microseconds since 1970, UTC.
CREATE TABLE tokens (
    id          BLOB    NOT NULL,
    secret_hash BLOB    NOT NULL,
    scope       TEXT    NOT NULL,
    cluster     TEXT,
    name        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    CONSTRAINT tokens_pk PRIMARY KEY (id),
    CONSTRAINT tokens_secret_once UNIQUE (secret_hash),
    CONSTRAINT tokens_secret_is_sha256 CHECK (length(secret_hash) = 32)
) STRICT;
