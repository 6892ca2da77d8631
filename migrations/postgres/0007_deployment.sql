-- Which deployment's key the ids and hashes of the records were made under: an HMAC of a constant, from which the key
-- cannot be computed. The first start writes it.
CREATE TABLE deployment (
    one       integer NOT NULL,
    key_check bytea   NOT NULL,
    CONSTRAINT deployment_pk PRIMARY KEY (one),
    CONSTRAINT deployment_once CHECK (one = 1),
    CONSTRAINT deployment_key_check_is_sha256 CHECK (length(key_check) = 32)
);
