-- The records as people read them.
CREATE VIEW events AS
SELECT
    record.id, record.at, record.received_at,
    (ARRAY['audit', 'access', 'pipeline'])[record.kind + 1] AS kind,
    origin.cluster,
    CASE get_byte(record.audit_id || '\x00'::bytea, 0)
        WHEN 1 THEN encode(substr(record.audit_id, 2), 'hex')::uuid::text
        ELSE convert_from(substr(record.audit_id, 2), 'UTF8')
    END AS audit_id,
    record.verb, record.username, record.resource, record.namespace, record.name, record.code,
    boot.source, boot.boot, record.seq, origin.rules, record.redactions
FROM record
JOIN origin ON origin.id = record.origin
JOIN boot ON boot.id = origin.boot;
