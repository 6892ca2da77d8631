//! A steady stream of batches to a running server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{generator::Generator, input, process::Server};

/// Events of a batch: small enough that a few thousand a second are a stream and not bursts.
const BATCH: usize = 100;
/// Batches under way at once; a server that falls behind slows the stream down, and its rate tells.
const UNDER_WAY: usize = 32;

/// The stream, until it is stopped.
pub(crate) struct Load {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<f64>>,
}

impl Load {
    /// Posts `rate` events in a second.
    pub(crate) fn start(server: Arc<Server>, rate: usize) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(stream(server, rate, stop.clone()));
        Self { stop, task }
    }

    /// Ends the stream; events that were acknowledged in a second.
    pub(crate) async fn stop(self) -> anyhow::Result<f64> {
        self.stop.cancel();
        self.task.await?
    }
}

async fn stream(server: Arc<Server>, rate: usize, stop: CancellationToken) -> anyhow::Result<f64> {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / rate as f64));
    let (mut generator, permits) = (input::from_now(rate), Arc::new(Semaphore::new(UNDER_WAY)));
    let (mut posts, began, mut posted) = (JoinSet::new(), Instant::now(), 0);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (server, body) = (Arc::clone(&server), batch(&mut generator));
        posts.spawn(async move {
            let _permit = permit;
            server.post(body).send().await?.error_for_status()?;
            anyhow::Ok(())
        });
        posted += BATCH;
        while let Some(done) = posts.try_join_next() {
            done??;
        }
    }
    while let Some(done) = posts.join_next().await {
        done??;
    }
    Ok(posted as f64 / began.elapsed().as_secs_f64())
}

fn batch(generator: &mut Generator) -> Bytes {
    let mut body = Vec::with_capacity(BATCH * 1_700);
    generator.event_list(BATCH, &mut body);
    body.into()
}
