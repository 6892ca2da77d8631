//! A KMS plugin of version 1 behind a unix socket. It is asked to unwrap and nothing else: what lies under it is read until
//! it has been written anew.

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::{
    Kms, KmsError, Status, Wrapped,
    plugin::{MAX_ANSWER, channel, failed},
    wire_v1::{self, key_management_service_client::KeyManagementServiceClient as Client},
};
use crate::secret::KeyBytes;

/// What each side calls the protocol.
pub(crate) const VERSION: &str = "v1beta1";

/// A plugin. It is reached at the first call, and again after it was away.
pub(crate) struct PluginV1 {
    socket: String,
    client: OnceCell<Client<Channel>>,
}

impl PluginV1 {
    /// The plugin at a socket, as [`super::plugin::Plugin::new`] takes it.
    pub(crate) fn new(socket: &str) -> Self {
        Self { socket: socket.to_owned(), client: OnceCell::new() }
    }

    async fn client(&self) -> Client<Channel> {
        let made =
            || async { Client::new(channel(self.socket.clone())).max_decoding_message_size(MAX_ANSWER) };
        self.client.get_or_init(made).await.clone()
    }
}

#[async_trait]
impl Kms for PluginV1 {
    /// The protocol tells of no key, and of no health beyond an answer.
    async fn status(&self) -> Result<Status, KmsError> {
        let request = wire_v1::VersionRequest { version: VERSION.to_owned() };
        let answer = self.client().await.version(request).await.map_err(failed)?.into_inner();
        Ok(Status { version: answer.version, healthz: "ok".to_owned(), key_id: String::new() })
    }

    async fn encrypt(&self, _: &str, _: &KeyBytes) -> Result<Wrapped, KmsError> {
        Err(KmsError::Refused("a plugin of version 1 is only asked to unwrap".to_owned()))
    }

    async fn decrypt(&self, _: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        let request =
            wire_v1::DecryptRequest { version: VERSION.to_owned(), cipher: wrapped.ciphertext.clone() };
        let answer = self.client().await.decrypt(request).await.map_err(failed)?;
        Ok(Zeroizing::new(answer.into_inner().plain).into())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::{Request, Response, transport::Server};

    use super::*;
    use crate::{
        EncryptionConfig, EncryptionTransformer,
        kms::wire_v1::key_management_service_server::{KeyManagementService, KeyManagementServiceServer},
        provider::{aes_cbc_cipher, aes_gcm_cipher},
    };

    const AT: &str = "/registry/secrets/default/a";
    const DATA_KEY: [u8; 32] = [7; 32];

    /// Wraps by turning the bits.
    struct Old(&'static str);

    #[tonic::async_trait]
    impl KeyManagementService for Old {
        async fn version(
            &self,
            request: Request<wire_v1::VersionRequest>,
        ) -> Result<Response<wire_v1::VersionResponse>, tonic::Status> {
            assert_eq!(request.into_inner().version, VERSION);
            let version = self.0.to_owned();
            Ok(Response::new(wire_v1::VersionResponse { version, ..Default::default() }))
        }

        async fn decrypt(
            &self,
            request: Request<wire_v1::DecryptRequest>,
        ) -> Result<Response<wire_v1::DecryptResponse>, tonic::Status> {
            let plain = request.into_inner().cipher.iter().map(|byte| !byte).collect();
            Ok(Response::new(wire_v1::DecryptResponse { plain }))
        }
    }

    /// A transformer over such a plugin, which is served for as long as the runtime lives.
    fn transformer(dir: &std::path::Path, version: &'static str) -> EncryptionTransformer {
        let socket = dir.join("kms.sock");
        let listening = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let service = KeyManagementServiceServer::new(Old(version));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listening));
        let text = format!(
            "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [
            {{identity: {{}}}}, {{kms: {{name: p, endpoint: 'unix://{}'}}}}]}}]}}",
            socket.display()
        );
        let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
        EncryptionTransformer::from_config(config).unwrap()
    }

    fn stored(sealed: &[u8]) -> Vec<u8> {
        let wrapped = DATA_KEY.map(|byte| !byte);
        [b"k8s:enc:kms:v1:p:\0\x20", &wrapped[..], sealed].concat()
    }

    #[tokio::test]
    async fn what_lies_under_version_1_is_read_and_stale() {
        let dir = tempfile::tempdir().unwrap();
        let transformer = transformer(dir.path(), VERSION);
        transformer.kms()[0].probe().await.unwrap();
        let (mut gcm, mut cbc) = (Vec::new(), Vec::new());
        aes_gcm_cipher(&DATA_KEY).unwrap().seal(AT.as_bytes(), b"new", &mut gcm).unwrap();
        aes_cbc_cipher(&DATA_KEY).unwrap().seal(b"", b"before 1.25", &mut cbc).unwrap();
        for (sealed, plain) in [(&gcm, &b"new"[..]), (&cbc, b"before 1.25")] {
            let value = transformer.transform_from_storage("secrets", AT, &stored(sealed)).await.unwrap();
            assert_eq!((&value.bytes[..], value.stale), (plain, true));
        }
        // It is bound to its place, and nothing else than what was written is read.
        for (at, value) in [("/registry/secrets/default/b", stored(&gcm)), (AT, stored(&gcm[..20]))] {
            transformer.transform_from_storage("secrets", at, &value).await.unwrap_err();
        }
        for cut in [0, 1, 2, 30, 34] {
            let value = &stored(&gcm)[..b"k8s:enc:kms:v1:p:".len() + cut];
            let error = transformer.transform_from_storage("secrets", AT, value).await.unwrap_err();
            assert!(error.to_string().contains("the envelope is wrong"), "{cut}: {error}");
        }
    }

    #[tokio::test]
    async fn a_plugin_of_another_version_is_not_well() {
        let dir = tempfile::tempdir().unwrap();
        let error = transformer(dir.path(), "v2").kms()[0].probe().await.unwrap_err();
        assert_eq!(error.to_string(), "KMS plugin p speaks version \"v2\", expected \"v1beta1\"");
    }
}
