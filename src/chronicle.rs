//! What the process records of itself besides its start: which rules and policy came into force, and its end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::errors::chain;
use ingest::{
    from_file::FromFile,
    journal::{AppendError, Journal},
    pipeline::Fact,
    policy::Loaded,
    redact::{Redactor, RuleSet},
    time::Clock,
    watched::Watched,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often the files of rules and policy are looked at: a change, which takes two looks, is in force within seconds,
/// and reading a small file costs next to nothing.
const LOOK: Duration = Duration::from_secs(2);

/// Between two tries while the journal has no room.
const RETRY: Duration = Duration::from_secs(1);

/// The file in the data folder that keeps what was in force last.
const FILE: &str = "in-force.json";

/// Hashes of what was in force when it was looked at last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct InForce {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rules: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

/// What is in force as a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Rules,
    Policy,
}

impl Subject {
    fn of(self, known: &mut InForce) -> &mut Option<String> {
        match self {
            Self::Rules => &mut known.rules,
            Self::Policy => &mut known.policy,
        }
    }

    fn fact(self, old: Option<String>, new: String) -> Fact {
        match self {
            Self::Rules => Fact::RulesChanged { old, new },
            Self::Policy => Fact::PolicyChanged { old, new },
        }
    }
}

/// Writes facts about this instance into its journal.
#[derive(Debug)]
pub(crate) struct Chronicle {
    journal: Journal,
    clock: Clock,
    file: PathBuf,
    known: Mutex<InForce>,
}

impl Chronicle {
    /// A chronicle that goes on where the last start left it.
    pub(crate) fn open(data: &Path, journal: Journal, clock: Clock) -> Self {
        let file = data.join(FILE);
        let known = Mutex::new(known(&file));
        Self { journal, clock, file, known }
    }

    /// Tells of rules and of a policy that are not those of the last start, then of each change of their files until
    /// `stop`.
    pub(crate) async fn run(
        self,
        redactors: Watched<RuleSet, Redactor>,
        policy: Option<Watched<Loaded>>,
        stop: &CancellationToken,
    ) {
        let rules = self.follow(redactors, Subject::Rules, stop);
        let policy = async {
            if let Some(policy) = policy {
                self.follow(policy, Subject::Policy, stop).await;
            }
        };
        tokio::join!(rules, policy, stop.cancelled());
    }

    async fn follow<F, V>(&self, mut watched: Watched<F, V>, subject: Subject, stop: &CancellationToken)
    where
        F: FromFile + 'static,
        V: Send + Sync + 'static,
    {
        self.tell(subject, watched.hash(), stop).await;
        while let Some(news) = stop.run_until_cancelled(watched.news(LOOK)).await {
            match news {
                Ok(change) => self.tell(subject, &change.new, stop).await,
                Err(error) => {
                    let name = F::NAME;
                    tracing::error!(
                        error = chain(&error),
                        "still in force: the {name} before; mend the file"
                    );
                }
            }
        }
    }

    /// Records what is in force, unless it was at the last start as well.
    async fn tell(&self, subject: Subject, new: &str, stop: &CancellationToken) {
        let old = subject.of(&mut self.known()).clone();
        if old.as_deref() == Some(new) {
            return;
        }
        // The first rules of a folder are told by every record; only other ones are news.
        let is_told = old.is_none() && subject == Subject::Rules;
        if is_told || record(&self.journal, &self.clock, &subject.fact(old, new.to_owned()), stop).await {
            *subject.of(&mut self.known()) = Some(new.to_owned());
            self.keep();
        }
    }

    fn known(&self) -> MutexGuard<'_, InForce> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When this fails the next start tells the same again, which does no harm.
    fn keep(&self) {
        let next = self.file.with_extension("new");
        let written = serde_json::to_vec(&*self.known())
            .map_err(io::Error::from)
            .and_then(|json| fs::write(&next, json))
            .and_then(|()| fs::rename(&next, &self.file));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.file.display(), "what is in force is not kept for the next start");
        }
    }
}

/// A file that is not there or does not read tells nothing.
fn known(file: &Path) -> InForce {
    match fs::read(file) {
        Ok(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %file.display(), "what was in force before is not known");
            InForce::default()
        }),
        Err(_) => InForce::default(),
    }
}

/// Records a fact; while the journal has no room, says so and tries again until `stop`. Whether the fact is durable.
pub(crate) async fn record(journal: &Journal, clock: &Clock, fact: &Fact, stop: &CancellationToken) -> bool {
    let mut is_said = false;
    loop {
        match journal.append(vec![fact.draft(clock)]).await {
            Ok(_) => {
                tracing::info!("{fact}");
                return true;
            }
            Err(AppendError::Ended) => break,
            Err(error @ (AppendError::Full | AppendError::NoSpace | AppendError::NoKey)) => {
                if !is_said {
                    is_said = true;
                    tracing::warn!(error = chain(&error), "to be recorded once there is room: {fact}");
                }
                if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    break;
                }
            }
        }
    }
    tracing::warn!("not recorded before the stop: {fact}");
    false
}

/// Records what comes until nobody can tell more.
pub(crate) async fn record_all(
    mut facts: mpsc::Receiver<Fact>,
    journal: &Journal,
    clock: &Clock,
    stop: &CancellationToken,
) {
    while let Some(fact) = facts.recv().await {
        record(journal, clock, &fact, stop).await;
    }
}

/// Records that the instance stops in order: the last record of its boot. The journal is closed after it.
pub(crate) async fn stop(journal: &Journal, clock: &Clock) {
    if let Err(error) = journal.append(vec![Fact::Stop.draft(clock)]).await {
        tracing::warn!(error = chain(&error), "the stop could not be recorded");
    }
}

#[cfg(test)]
mod tests {
    use ingest::journal::JournalOptions;

    use super::*;

    #[tokio::test]
    async fn a_fact_waits_for_room_in_the_journal() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let options = JournalOptions { max_bytes: 2 << 20, ..JournalOptions::new("test", clock.clone()) };
        let (journal, _) = Journal::open(folder.path(), options).unwrap();
        let filler = Fact::Retention { days: vec!["2026-11-23".to_owned(); 2_000] };
        while journal.append(vec![filler.draft(&clock)]).await.is_ok() {}
        let (stop, fact) =
            (CancellationToken::new(), Fact::Retention { days: vec!["2026-11-24".to_owned(); 2_000] });
        let end = journal.bounds().end;
        let recorded = record(&journal, &clock, &fact, &stop);
        let released = async {
            tokio::task::yield_now().await;
            assert_eq!(journal.bounds().end, end);
            journal.release(end);
        };
        assert!(tokio::join!(recorded, released).0);
        let entries = journal.read(end, 1).await.unwrap();
        let event = entries[0].record.as_ref().unwrap().event.clone();
        assert!(String::from_utf8_lossy(&event).contains("2026-11-24"));

        while journal.append(vec![filler.draft(&clock)]).await.is_ok() {}
        stop.cancel();
        assert!(!record(&journal, &clock, &fact, &stop).await);
    }
}
