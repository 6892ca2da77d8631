//! Generates the messages and the services of the KMS protocols.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // The bytes of one object are then always the same.
        .btree_map(".")
        .compile_protos(&["proto/kms.proto", "proto/kms_v1.proto", "proto/envelope.proto"], &["proto"])
}
