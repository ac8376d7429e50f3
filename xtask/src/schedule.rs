//! Groups of work in, every stage's calls out: evaluators and realisers side by side on one pool, each
//! derivation handed on the moment it exists. The stages themselves arrive as closures.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};

/// How many of each stage run at once.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    pub evaluators: usize,
    pub realisers: usize,
}

/// A queue between the stages: closed when the last evaluator is done.
struct Queue<T> {
    state: Mutex<(VecDeque<T>, usize)>,
    changed: Condvar,
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<T>, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: T) {
        self.lock().0.push_back(item);
        self.changed.notify_one();
    }

    fn one_producer_less(&self) {
        self.lock().1 -= 1;
        self.changed.notify_all();
    }

    /// Everything that waits, but no more than a fair share if others could work on it too; `None` once
    /// nothing will come any more.
    fn take(&self, takers: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        loop {
            let waiting = state.0.len();
            if waiting > 0 {
                // While producers work, more comes soon: take all. At the end the rest is shared out.
                let share = if state.1 > 0 { waiting } else { waiting.div_ceil(takers) };
                return Some(state.0.drain(..share).collect());
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs `evaluate` over the groups and `realise` over what it hands on and what is ready already. Each evaluator takes the next
/// `chunk` of groups as soon as it is free; each realiser takes what is waiting. The first error of a stage
/// is returned after everything else has been given its chance.
pub fn pipeline<G: Send, T: Send>(
    width: Width,
    ready: Vec<T>,
    groups: Vec<G>,
    evaluate: impl Fn(Vec<G>, &(dyn Fn(T) + Sync)) -> Result<()> + Sync,
    realise: impl Fn(Vec<T>) -> Result<()> + Sync,
) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(width.evaluators + width.realisers)
        .thread_name(|n| format!("stage-{n}"))
        .build()
        .context("cannot start worker threads")?;
    let waiting = Mutex::new(VecDeque::from(groups));
    let queue = Queue { state: Mutex::new((VecDeque::from(ready), width.evaluators)), changed: Condvar::new() };
    let failures: Mutex<Vec<anyhow::Error>> = Mutex::new(Vec::new());
    let keep = |result: Result<()>| {
        if let Err(error) = result {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push(error);
        }
    };
    pool.in_place_scope(|scope| {
        for _ in 0..width.evaluators {
            scope.spawn(|_| {
                while let Some(groups) = next_chunk(&waiting, width.evaluators) {
                    keep(evaluate(groups, &|item| queue.push(item)));
                }
                queue.one_producer_less();
            });
        }
        for _ in 0..width.realisers {
            scope.spawn(|_| {
                while let Some(batch) = queue.take(width.realisers) {
                    keep(realise(batch));
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failures.is_empty() { Ok(()) } else { Err(failures.swap_remove(0)) }
}

/// Groups that share an evaluator save each other work (25 to 40 % with one nixpkgs for all), but a long
/// chunk at the end keeps the others waiting: so chunks shrink as the work runs out.
fn next_chunk<G>(waiting: &Mutex<VecDeque<G>>, evaluators: usize) -> Option<Vec<G>> {
    /// A NixOS host adds about 0.4 GB to its evaluator, so that more at once would outgrow small machines.
    const MOST: usize = 4;
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let size = waiting.len().div_ceil(2 * evaluators).min(MOST);
    (size > 0).then(|| waiting.drain(..size).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everything_passes_both_stages_once() {
        let realised = Mutex::new(Vec::new());
        let width = Width { evaluators: 3, realisers: 2 };
        pipeline(
            width,
            vec![],
            (0..100).collect(),
            |groups, hand_on| {
                groups.into_iter().for_each(hand_on);
                Ok(())
            },
            |batch| {
                realised.lock().unwrap().extend(batch);
                Ok(())
            },
        )
        .unwrap();
        let mut realised = realised.into_inner().unwrap();
        realised.sort_unstable();
        assert_eq!(realised, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn building_starts_before_evaluation_ends() {
        let width = Width { evaluators: 1, realisers: 1 };
        let built = AtomicUsize::new(0);
        pipeline(
            width,
            vec![],
            vec![()],
            |_, hand_on| {
                hand_on(1);
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
                while built.load(Ordering::SeqCst) == 0 {
                    assert!(std::time::Instant::now() < deadline, "nothing was built while evaluating");
                    std::thread::yield_now();
                }
                Ok(())
            },
            |batch| {
                built.fetch_add(batch.len(), Ordering::SeqCst);
                Ok(())
            },
        )
        .unwrap();
    }

    #[test]
    fn one_failing_call_does_not_stop_the_others() {
        let done = AtomicUsize::new(0);
        let width = Width { evaluators: 2, realisers: 2 };
        let result = pipeline(
            width,
            vec![],
            (0..10).collect(),
            |groups, hand_on| {
                groups.into_iter().for_each(hand_on);
                Ok(())
            },
            |batch: Vec<i32>| {
                done.fetch_add(batch.len(), Ordering::SeqCst);
                anyhow::ensure!(!batch.contains(&3), "three");
                Ok(())
            },
        );
        assert_eq!((result.is_err(), done.into_inner()), (true, 10));
    }

    #[test]
    fn chunks_shrink_towards_the_end() {
        let waiting = Mutex::new((0..20).collect::<VecDeque<_>>());
        let sizes: Vec<usize> = std::iter::from_fn(|| next_chunk(&waiting, 2).map(|c| c.len())).collect();
        assert_eq!(sizes, [4, 4, 3, 3, 2, 1, 1, 1, 1]);
    }
}
