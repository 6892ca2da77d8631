-- The records as people read them.
CREATE VIEW events AS
SELECT
    lower(substr(hex(record.id), 1, 8) || '-' || substr(hex(record.id), 9, 4) || '-' || substr(hex(record.id), 13, 4)
        || '-' || substr(hex(record.id), 17, 4) || '-' || substr(hex(record.id), 21)) AS id,
    strftime('%Y-%m-%dT%H:%M:%S', record.at / 1000000, 'unixepoch') || printf('.%06dZ', record.at % 1000000) AS at,
    strftime('%Y-%m-%dT%H:%M:%S', record.received_at / 1000000, 'unixepoch')
        || printf('.%06dZ', record.received_at % 1000000) AS received_at,
    CASE record.kind WHEN 0 THEN 'audit' WHEN 1 THEN 'access' ELSE 'pipeline' END AS kind,
    origin.cluster,
    CASE hex(substr(record.audit_id, 1, 1))
        WHEN '01' THEN lower(substr(hex(record.audit_id), 3, 8) || '-' || substr(hex(record.audit_id), 11, 4)
            || '-' || substr(hex(record.audit_id), 15, 4) || '-' || substr(hex(record.audit_id), 19, 4)
            || '-' || substr(hex(record.audit_id), 23))
        ELSE CAST(substr(record.audit_id, 2) AS TEXT)
    END AS audit_id,
    record.verb, record.username, record.resource, record.namespace, record.name, record.code,
    boot.source, boot.boot, record.seq, origin.rules, record.redactions
FROM record
JOIN origin ON origin.id = record.origin
JOIN boot ON boot.id = origin.boot;
