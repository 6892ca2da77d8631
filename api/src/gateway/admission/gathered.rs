//! Reads that several requests share.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Asks once for all who ask the same while an earlier question is on its way.
///
/// No answer is older than its question: who asks during a read waits for the next one. Clones are handles of the same.
#[derive(Debug)]
pub(super) struct Gathered<Q, A>(Arc<Mutex<Waiting<Q, A>>>);

type Waiting<Q, A> = HashMap<Q, Vec<oneshot::Sender<A>>>;

/// One question that is being answered, until nobody asks it any longer.
struct Asking<Q: Eq + Hash, A> {
    gathered: Gathered<Q, A>,
    question: Q,
}

impl<Q, A> Default for Gathered<Q, A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<Q, A> Clone for Gathered<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q, A> Gathered<Q, A> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, A> Gathered<Q, A>
where
    Q: Clone + Eq + Hash + Send + 'static,
    A: Send + 'static,
{
    /// The answer of a read that began after this call; nothing when the read panicked. `read` is the same for all
    /// who ask the same.
    pub(super) async fn ask<R>(&self, question: Q, read: impl Fn() -> R + Send + 'static) -> Option<A>
    where
        A: Clone,
        R: Future<Output = A> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        match self.waiting().entry(question.clone()) {
            Entry::Occupied(mut asked) => asked.get_mut().push(answer),
            Entry::Vacant(first) => {
                first.insert(vec![answer]);
                let asking = Asking { gathered: self.clone(), question };
                // It goes on for others when the first one is gone.
                tokio::spawn(asking.answer_all(read));
            }
        }
        answered.await.ok()
    }
}

impl<Q: Eq + Hash, A: Clone> Asking<Q, A> {
    async fn answer_all<R: Future<Output = A>>(self, read: impl Fn() -> R) {
        while let Some(asked) = self.take() {
            let answer = read().await;
            for one in asked {
                // Who no longer waits needs no answer.
                let _ = one.send(answer.clone());
            }
        }
    }

    /// Those who asked until now; nothing when there are none, which ends this.
    fn take(&self) -> Option<Vec<oneshot::Sender<A>>> {
        let mut waiting = self.gathered.waiting();
        let asked = waiting.get_mut(&self.question).map(std::mem::take).filter(|asked| !asked.is_empty());
        if asked.is_none() {
            waiting.remove(&self.question);
        }
        asked
    }
}

impl<Q: Eq + Hash, A> Drop for Asking<Q, A> {
    /// Nobody waits for a read that panicked.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.gathered.waiting().remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        task::Poll,
    };

    use futures::{FutureExt, poll};
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers with how many reads there were, each after it was let.
    async fn count(reads: Arc<AtomicU32>, gate: Arc<Semaphore>) -> u32 {
        let number = reads.fetch_add(1, Ordering::SeqCst) + 1;
        gate.acquire().await.unwrap().forget();
        number
    }

    #[tokio::test]
    async fn who_asks_during_a_read_shares_the_next_one() {
        let (reads, gate) = (Arc::<AtomicU32>::default(), Arc::new(Semaphore::new(0)));
        let gathered = Gathered::default();
        let ask = || {
            let (reads, gate) = (reads.clone(), gate.clone());
            gathered.ask("what", move || count(reads.clone(), gate.clone())).boxed()
        };
        let mut first = ask();
        assert_eq!(poll!(&mut first), Poll::Pending);
        while reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let mut later = [ask(), ask(), ask()];
        for one in &mut later {
            assert_eq!(poll!(one), Poll::Pending);
        }
        gate.add_permits(2);
        assert_eq!(first.await, Some(1), "its read began before the others asked");
        for one in later {
            assert_eq!(one.await, Some(2));
        }
        while !gathered.waiting().is_empty() {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        assert_eq!(ask().await, Some(3), "nothing is kept");
    }

    #[tokio::test]
    async fn a_read_that_panics_leaves_nobody_waiting() {
        let gathered = Gathered::default();
        let broken = || async { if true { panic!("the read is broken") } else { 0 } };
        assert_eq!(gathered.ask("what", broken).await, None);
        assert_eq!(gathered.ask("what", || async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn who_goes_away_takes_nobody_along() {
        let (reads, gate) = (Arc::<AtomicU32>::default(), Arc::new(Semaphore::new(0)));
        let gathered = Gathered::default();
        let ask = || {
            let (reads, gate) = (reads.clone(), gate.clone());
            gathered.ask("what", move || count(reads.clone(), gate.clone())).boxed()
        };
        let mut first = ask();
        assert_eq!(poll!(&mut first), Poll::Pending);
        let second = ask();
        drop(first);
        gate.add_permits(2);
        assert!(second.await.is_some());
    }
}
