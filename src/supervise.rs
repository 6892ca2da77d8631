//! The long-lived tasks: each has a name, a place in the shutdown order, and a failure that ends the process.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, anyhow};
use tokio::{
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// When a task is asked to stop: those of a later phase still run while an earlier one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// What takes requests in: no new ones, and the open ones end.
    Edge,
    /// What moves records on: each ends its batch and publishes its position.
    Movers,
    /// What brings the journal into the log: the last record of a boot is written before it ends.
    Relay,
}

const ORDER: [Phase; 3] = [Phase::Edge, Phase::Movers, Phase::Relay];

/// Runs tasks until a signal or the first failure, then stops them phase by phase within one grace period.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    tasks: JoinSet<Result<()>>,
    running: HashMap<Id, (&'static str, Phase)>,
    edge: CancellationToken,
    movers: CancellationToken,
    relay: CancellationToken,
}

impl Supervisor {
    /// What tasks of `phase` watch to know that they shall stop.
    pub(crate) fn stop(&self, phase: Phase) -> CancellationToken {
        match phase {
            Phase::Edge => self.edge.clone(),
            Phase::Movers => self.movers.clone(),
            Phase::Relay => self.relay.clone(),
        }
    }

    /// Starts a task. One that ends before it is asked to, with or without an error, ends the process.
    pub(crate) fn spawn(
        &mut self,
        phase: Phase,
        name: &'static str,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(task);
        self.running.insert(handle.id(), (name, phase));
    }

    /// Waits for `signal` or a failure, then stops every task. When nothing failed, `farewell` has its turn before the
    /// relay ends.
    ///
    /// # Errors
    /// The first failure of a task. Tasks that do not end in time are named in the log and dropped.
    pub(crate) async fn run(
        mut self,
        signal: impl Future<Output = &'static str>,
        farewell: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<()> {
        let outcome = tokio::select! {
            name = signal => {
                tracing::info!(signal = name, ?grace, "stopping");
                Ok(())
            }
            ended = self.next() => Err(unexpected(ended)),
        };
        if let Err(error) = &outcome {
            tracing::error!(error = format!("{error:#}"), "stopping because a task failed");
        }
        self.stop_all(outcome, farewell, Instant::now() + grace).await
    }

    async fn stop_all(
        &mut self,
        mut outcome: Result<()>,
        farewell: impl Future<Output = ()>,
        deadline: Instant,
    ) -> Result<()> {
        let mut farewell = Some(farewell);
        for phase in ORDER {
            // Each phase may take half of what is left, so that the next ones always have their share.
            let left = deadline.saturating_duration_since(Instant::now());
            if phase == Phase::Relay
                && outcome.is_ok()
                && let Some(farewell) = farewell.take()
                && tokio::time::timeout(left / 2, farewell).await.is_err()
            {
                tracing::warn!("the stop was not recorded in time");
            }
            self.stop(phase).cancel();
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if phase == Phase::Relay { left } else { left / 2 };
            let ended = tokio::time::timeout(share, self.end_of(phase)).await;
            match ended {
                Ok(result) => outcome = outcome.and(result),
                Err(_) => {
                    tracing::warn!(tasks = ?self.names(phase), "still running at the end of its grace period")
                }
            }
        }
        self.tasks.abort_all();
        outcome
    }

    async fn end_of(&mut self, phase: Phase) -> Result<()> {
        let mut outcome = Ok(());
        while self.running.values().any(|task| task.1 == phase) {
            let (name, result) = self.next().await;
            outcome = outcome.and(result.with_context(|| format!("{name} failed while stopping")));
            tracing::debug!(task = name, "stopped");
        }
        outcome
    }

    /// The next task that ends. Pends for ever when there is none.
    async fn next(&mut self) -> (&'static str, Result<()>) {
        let Some(joined) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(e) => (e.id(), Err(anyhow!("it panicked"))),
        };
        (self.running.remove(&id).map_or("a task", |task| task.0), result)
    }

    fn names(&self, phase: Phase) -> Vec<&'static str> {
        self.running.values().filter(|task| task.1 == phase).map(|task| task.0).collect()
    }
}

fn unexpected((name, result): (&'static str, Result<()>)) -> anyhow::Error {
    match result {
        Ok(()) => anyhow!("{name} ended by itself"),
        Err(error) => error.context(format!("{name} failed")),
    }
}

/// Waits for the signals by which a process is asked to end. A second one ends it at once.
pub(crate) async fn signals() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(130);
    });
    name
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const GRACE: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn movers_run_until_the_edge_has_ended() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        for (phase, name, takes) in [(Phase::Movers, "mover", 0), (Phase::Edge, "edge", 50)] {
            let (stop, log) = (supervisor.stop(phase), log.clone());
            supervisor.spawn(phase, name, async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(takes)).await;
                log.lock().unwrap().push(name);
                Ok(())
            });
        }
        supervisor.run(async { "test" }, async {}, GRACE).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["edge", "mover"]);
    }

    #[tokio::test]
    async fn the_relay_runs_until_the_farewell_was_said() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        for (phase, name) in [(Phase::Movers, "mover"), (Phase::Relay, "relay")] {
            let (stop, said) = (supervisor.stop(phase), said.clone());
            supervisor.spawn(phase, name, async move {
                stop.cancelled().await;
                said.lock().unwrap().push(name);
                Ok(())
            });
        }
        let farewell = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            said.lock().unwrap().push("farewell");
        };
        supervisor.run(async { "test" }, farewell, GRACE).await.unwrap();
        assert_eq!(*said.lock().unwrap(), ["mover", "farewell", "relay"]);
    }

    #[tokio::test]
    async fn a_failed_task_ends_the_others_and_is_named() {
        let mut supervisor = Supervisor::default();
        let stop = supervisor.stop(Phase::Movers);
        supervisor.spawn(Phase::Movers, "recorder", async { Err(anyhow!("the disk is gone")) });
        supervisor.spawn(Phase::Movers, "indexer", async move {
            stop.cancelled().await;
            Ok(())
        });
        let error = supervisor.run(std::future::pending(), async {}, GRACE).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "recorder failed: the disk is gone");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_cannot_hold_the_process() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn(Phase::Edge, "edge", std::future::pending());
        supervisor.spawn(Phase::Movers, "mover", std::future::pending());
        let begin = Instant::now();
        supervisor.run(async { "test" }, async {}, GRACE).await.unwrap();
        assert!(begin.elapsed() < GRACE * 5, "took {:?}", begin.elapsed());
    }
}
