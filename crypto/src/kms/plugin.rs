//! A KMS plugin behind a unix socket, called by gRPC.

use std::io;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::OnceCell};
use tonic::{
    Code,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;
use zeroize::Zeroizing;

use super::{
    Kms, KmsError, Status, Wrapped,
    wire::{self, key_management_service_client::KeyManagementServiceClient as Client},
};
use crate::secret::KeyBytes;

/// The largest answer: annotations of 32 KiB, a key and an id, with room to spare.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// A plugin. It is reached at the first call, and again after it was away.
pub struct Plugin {
    socket: String,
    client: OnceCell<Client<Channel>>,
}

impl Plugin {
    /// The plugin at a socket: a path, or an abstract name behind `@`.
    pub fn new(socket: &str) -> Self {
        Self { socket: socket.to_owned(), client: OnceCell::new() }
    }

    async fn client(&self) -> Client<Channel> {
        let made =
            || async { Client::new(channel(self.socket.clone())).max_decoding_message_size(MAX_ANSWER) };
        self.client.get_or_init(made).await.clone()
    }
}

/// A channel that connects when it is used. The address of the endpoint is never looked at.
pub(super) fn channel(socket: String) -> Channel {
    let connect = move |_: Uri| {
        let socket = socket.clone();
        async move { connect(&socket).await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(connect))
}

async fn connect(socket: &str) -> io::Result<UnixStream> {
    let Some(name) = socket.strip_prefix('@') else { return UnixStream::connect(socket).await };
    use std::os::{linux::net::SocketAddrExt, unix::net};
    let address = net::SocketAddr::from_abstract_name(name)?;
    // Connecting to a local socket does not wait for the other side.
    let stream = net::UnixStream::connect_addr(&address)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

#[async_trait]
impl Kms for Plugin {
    async fn status(&self) -> Result<Status, KmsError> {
        let answer = self.client().await.status(wire::StatusRequest {}).await;
        let wire::StatusResponse { version, healthz, key_id } = answer.map_err(failed)?.into_inner();
        Ok(Status { version, healthz, key_id })
    }

    async fn encrypt(&self, uid: &str, key: &KeyBytes) -> Result<Wrapped, KmsError> {
        let request = wire::EncryptRequest { plaintext: key.expose().to_vec(), uid: uid.to_owned() };
        let answer = self.client().await.encrypt(request).await;
        let wire::EncryptResponse { ciphertext, key_id, annotations } = answer.map_err(failed)?.into_inner();
        Ok(Wrapped { ciphertext, key_id, annotations })
    }

    async fn decrypt(&self, uid: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        let request = wire::DecryptRequest {
            ciphertext: wrapped.ciphertext.clone(),
            uid: uid.to_owned(),
            key_id: wrapped.key_id.clone(),
            annotations: wrapped.annotations.clone(),
        };
        let answer = self.client().await.decrypt(request).await.map_err(failed)?;
        Ok(Zeroizing::new(answer.into_inner().plaintext).into())
    }
}

pub(super) fn failed(status: tonic::Status) -> KmsError {
    match status.code() {
        Code::Unavailable => KmsError::Unreachable(status.message().to_owned()),
        code => KmsError::Refused(format!("{}: {code:?}", status.message())),
    }
}
