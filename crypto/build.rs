//! Generates the messages and the service of the KMS v2 protocol.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // The bytes of one object are then always the same.
        .btree_map(".")
        .compile_protos(&["proto/kms.proto", "proto/envelope.proto"], &["proto"])
}
