//! A bound of open connections: one more than that is closed at once, and counted.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum_server::accept::Accept;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::metrics;

/// Connections that are open at once. The usual limit of a process is 1,024 open files: half of it is left for the
/// journal, the ledger and the index.
pub(crate) const MAX_CONNECTIONS: usize = 512;

/// Lets connections in while there is a place.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }
}

impl<I, S> Accept<I, S> for Places {
    type Stream = Seated<I>;
    type Service = S;
    type Future = Ready<io::Result<(Seated<I>, S)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        ready(match self.0.clone().try_acquire_owned() {
            Ok(place) => Ok((Seated { stream, _place: place }, service)),
            Err(_) => {
                metrics::refused_connection();
                Err(io::Error::other("too many connections are open"))
            }
        })
    }
}

/// A connection with its place, which is free again when it is closed.
#[derive(Debug)]
pub(crate) struct Seated<I> {
    stream: I,
    _place: OwnedSemaphorePermit,
}

impl<I: AsyncRead + Unpin> AsyncRead for Seated<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Seated<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_is_closed() {
        let places = Places::new(2);
        let (first, ()) = places.accept("one", ()).await.unwrap();
        let (_second, ()) = places.accept("two", ()).await.unwrap();
        assert!(places.accept("three", ()).await.is_err());
        drop(first);
        assert!(places.accept("four", ()).await.is_ok());
    }
}
