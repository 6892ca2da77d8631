//! Audit events on standard output, one a line.

use std::io::{self, Write};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Bounds, DeliveryError, Output, file::lines};

/// Standard output. What it has is not synced: where it goes is not ours to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdout;

#[async_trait]
impl Output for Stdout {
    fn bounds(&self) -> Bounds {
        Bounds { events: 1000, bytes: 1 << 20 }
    }

    async fn deliver(&self, events: &[Bytes]) -> Result<(), DeliveryError> {
        let lines = lines(events);
        let write = move || {
            let mut out = io::stdout().lock();
            out.write_all(&lines).and_then(|()| out.flush())
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(io::Error::other).flatten();
        written.map_err(|e| DeliveryError::Unavailable(e.into()))
    }
}
