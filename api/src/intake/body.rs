//! The bytes of an intake request: decompressed as they come, and bounded.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_compression::{
    tokio::bufread::{GzipDecoder, ZstdDecoder},
    zstd::DParameter,
};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use futures::TryStreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::StreamReader;

use crate::errors::ApiError;

/// The largest body after decompression. A webhook's batch has at most 10 MiB; a file is sent in several requests.
pub const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// The largest window of a zstd frame, as a power of two: 8 MiB, what every decoder should take (RFC 8878) and what
/// level 19 writes. A sender chooses how much memory we need for it.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A decoded body.
pub(super) struct Decoded {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    arrived: Arc<AtomicU64>,
}

impl Decoded {
    /// Reads what is there of the decoded bytes, as soon as something is; nothing at the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).await
    }

    /// How many bytes the sender has sent, before decompression.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

/// What is said when the bound is passed; the reader only knows I/O errors.
#[derive(Debug, thiserror::Error)]
#[error("the body has more than {MAX_BODY_BYTES} bytes after decompression; send it in parts")]
struct TooLarge;

/// Decodes a body as its `Content-Encoding` says.
pub(super) fn decoded(headers: &HeaderMap, body: Body) -> Result<Decoded, ApiError> {
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = arrived.clone();
    let stream = body.into_data_stream().inspect_ok(move |chunk| {
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    let raw = BufReader::new(StreamReader::new(stream.map_err(io::Error::other)));
    let decoded: Pin<Box<dyn AsyncRead + Send>> = match encoding(headers).as_str() {
        "" | "identity" => Box::pin(raw),
        "gzip" | "x-gzip" => {
            let mut decoder = GzipDecoder::new(raw);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        "zstd" => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
            let mut decoder = ZstdDecoder::with_params(raw, &[window]);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        other => {
            let message = format!("the Content-Encoding {other:?} is none of identity, gzip and zstd");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_encoding", message));
        }
    };
    let reader = Box::pin(Bounded { inner: decoded.take(MAX_BODY_BYTES + 1), read: 0 });
    Ok(Decoded { reader, arrived })
}

/// Whether a body's decoder takes a window of memory that its sender chooses.
pub(super) fn is_zstd(headers: &HeaderMap) -> bool {
    encoding(headers) == "zstd"
}

fn encoding(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

/// A reader that fails past the bound instead of ending there.
struct Bounded<R> {
    inner: tokio::io::Take<R>,
    read: u64,
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        if self.read > MAX_BODY_BYTES {
            return std::task::Poll::Ready(Err(io::Error::other(TooLarge)));
        }
        polled
    }
}

/// The answer to a body that does not come to its end.
pub(super) fn broken(error: io::Error) -> ApiError {
    if error.get_ref().is_some_and(|e| e.is::<TooLarge>()) {
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", TooLarge.to_string())
            .with("max_bytes", MAX_BODY_BYTES);
    }
    ApiError::bad_request("broken_body", format!("the body breaks off or does not decompress: {error}"))
}
