//! A KMS served to others by version 2 of the protocol, on a unix socket.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, transport::Server};
use zeroize::Zeroizing;

use super::{
    Kms, KmsError, Wrapped,
    wire::{
        self,
        key_management_service_server::{KeyManagementService, KeyManagementServiceServer},
    },
};

/// The largest question: a wrapped key with its annotations.
const MAX_QUESTION: usize = 64 * 1024;
/// Calls of one connection at once. An API server has a few at its start and about one a minute later.
const MAX_CALLS: usize = 64;

/// Serves until `stopped`. The socket is its owner's alone and is gone when this returns; one that a server left
/// behind is replaced, one that is served is not.
///
/// # Errors
/// When the socket cannot be made, or serving fails.
pub async fn serve(kms: Arc<dyn Kms>, socket: &Path, stopped: impl Future<Output = ()>) -> io::Result<()> {
    let socket = Socket::bind(socket)?;
    let service = KeyManagementServiceServer::new(Served(kms)).max_decoding_message_size(MAX_QUESTION);
    Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS)
        .add_service(service)
        .serve_with_incoming_shutdown(UnixListenerStream::new(socket.listener), stopped)
        .await
        .map_err(io::Error::other)
}

struct Socket {
    listener: UnixListener,
    _file: SocketFile,
}

/// The socket's file, which goes with it.
struct SocketFile(PathBuf);

impl Socket {
    /// It is made under another name, closed to others, and then moved to its place, so that nobody else can ever
    /// connect.
    fn bind(path: &Path) -> io::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves this socket"));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file that is no socket",
                ));
            }
            _ => {}
        }
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let new = SocketFile(new.into());
        let listener = UnixListener::bind(&new.0)?;
        fs::set_permissions(&new.0, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new.0, path)?;
        Ok(Self { listener, _file: SocketFile(path.to_owned()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already when it was moved; and nothing can be done about one that stays.
        let _ = fs::remove_file(&self.0);
    }
}

struct Served(Arc<dyn Kms>);

#[tonic::async_trait]
impl KeyManagementService for Served {
    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, tonic::Status> {
        let super::Status { version, healthz, key_id } = self.0.status().await.map_err(failed)?;
        Ok(Response::new(wire::StatusResponse { version, healthz, key_id }))
    }

    async fn encrypt(
        &self,
        request: Request<wire::EncryptRequest>,
    ) -> Result<Response<wire::EncryptResponse>, tonic::Status> {
        let wire::EncryptRequest { plaintext, uid } = request.into_inner();
        tracing::debug!(uid, "a key is wrapped");
        let wrapped = self.0.encrypt(&uid, &Zeroizing::new(plaintext).into()).await.map_err(failed)?;
        let Wrapped { ciphertext, key_id, annotations } = wrapped;
        Ok(Response::new(wire::EncryptResponse { ciphertext, key_id, annotations }))
    }

    async fn decrypt(
        &self,
        request: Request<wire::DecryptRequest>,
    ) -> Result<Response<wire::DecryptResponse>, tonic::Status> {
        let wire::DecryptRequest { ciphertext, uid, key_id, annotations } = request.into_inner();
        tracing::debug!(uid, key_id, "a key is unwrapped");
        let wrapped = Wrapped { ciphertext, key_id, annotations };
        let key = self.0.decrypt(&uid, &wrapped).await.map_err(failed)?;
        Ok(Response::new(wire::DecryptResponse { plaintext: key.expose().to_vec() }))
    }
}

fn failed(error: KmsError) -> tonic::Status {
    match error {
        KmsError::Refused(_) => tonic::Status::invalid_argument(error.to_string()),
        KmsError::Unreachable(_) | KmsError::TimedOut(_) => tonic::Status::unavailable(error.to_string()),
    }
}
