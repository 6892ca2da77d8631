-- The cluster's state as a row for each change. A row is never altered; compaction removes those that were replaced.
CREATE TABLE revisions (
    revision INTEGER NOT NULL,
    key      TEXT    NOT NULL,
    created  INTEGER NOT NULL,  -- the revision at which the key came to be
    previous INTEGER,           -- the revision that this one replaced; none for a creation
    value    BLOB,              -- none: the key was deleted
    expires  INTEGER,           -- microseconds since 1970, UTC: when the store itself deletes the key
    CONSTRAINT revisions_pk PRIMARY KEY (revision),
    CONSTRAINT revisions_replace_older CHECK (previous IS NULL OR previous < revision),
    CONSTRAINT revisions_created_before CHECK (created <= revision)
) STRICT;

-- A key's state at a revision: its last row up to there.
CREATE INDEX revisions_of_key ON revisions (key, revision);

-- The keys that are there now.
CREATE TABLE latest (
    key      TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    expires  INTEGER,
    CONSTRAINT latest_pk PRIMARY KEY (key)
) STRICT, WITHOUT ROWID;

CREATE INDEX latest_expiring ON latest (expires) WHERE expires IS NOT NULL;

CREATE TRIGGER revisions_write AFTER INSERT ON revisions WHEN NEW.value IS NOT NULL
BEGIN
    INSERT INTO latest (key, revision, expires) VALUES (NEW.key, NEW.revision, NEW.expires)
    ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, expires = excluded.expires;
END;

CREATE TRIGGER revisions_delete AFTER INSERT ON revisions WHEN NEW.value IS NULL
BEGIN
    DELETE FROM latest WHERE key = NEW.key;
END;

-- How far things have come: one row.
CREATE TABLE reached (
    one       INTEGER NOT NULL,
    written   INTEGER NOT NULL,  -- the last change
    compacted INTEGER NOT NULL,  -- states before this one are not to be read
    removed   INTEGER NOT NULL,  -- rows that changes up to here replaced are gone
    CONSTRAINT reached_pk PRIMARY KEY (one),
    CONSTRAINT reached_is_one CHECK (one = 1)
) STRICT;

-- Revision 0 means "any" to clients: the first change has number 2, as in etcd.
INSERT INTO reached (one, written, compacted, removed) VALUES (1, 1, 0, 0);
