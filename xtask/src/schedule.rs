//! Groups of work in, every stage's calls out: evaluators and realisers side by side on one pool, each
//! derivation handed on the moment it exists. The stages themselves arrive as closures.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
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

/// Groups of work that wait for an evaluator, each under the name of what it shares with others.
struct Waiting<G>(Mutex<BTreeMap<String, VecDeque<G>>>);

impl<G> Waiting<G> {
    fn new(groups: Vec<(String, G)>) -> Self {
        let mut kinds: BTreeMap<String, VecDeque<G>> = BTreeMap::new();
        for (kind, group) in groups {
            kinds.entry(kind).or_default().push_back(group);
        }
        Self(Mutex::new(kinds))
    }

    /// The next group of the kind that was taken last, because it shares work with it; when that kind has
    /// run out, of the kind of which most is left.
    fn next(&self, last: &mut Option<String>) -> Option<G> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.retain(|_, groups| !groups.is_empty());
        let same = last.take().filter(|last| kinds.contains_key(last));
        let kind = same.or_else(|| {
            let most = kinds.iter().rev().max_by_key(|(_, groups)| groups.len());
            most.map(|(kind, _)| kind.clone())
        })?;
        let group = kinds.get_mut(&kind)?.pop_front();
        *last = Some(kind);
        group
    }
}

/// Runs evaluators over the groups, each with the name of what it shares with others, and realisers over what
/// they hand on and what is ready already. Each evaluator takes group after group from the function that it
/// is given; each realiser takes what is waiting. The first error of a stage is returned after everything else
/// has been given its chance.
pub fn pipeline<G: Send, T: Send>(
    width: Width,
    ready: Vec<T>,
    groups: Vec<(String, G)>,
    evaluate: impl Fn(&dyn Fn() -> Option<G>, &(dyn Fn(T) + Sync)) -> Result<()> + Sync,
    realise: impl Fn(Vec<T>) -> Result<()> + Sync,
) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(width.evaluators + width.realisers)
        .thread_name(|n| format!("stage-{n}"))
        .build()
        .context("cannot start worker threads")?;
    let waiting = Waiting::new(groups);
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
                let last = RefCell::new(None);
                keep(evaluate(&|| waiting.next(&mut last.borrow_mut()), &|item| queue.push(item)));
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
            (0..100).map(|n| (format!("{}", n % 3), n)).collect(),
            |next, hand_on| {
                std::iter::from_fn(next).for_each(hand_on);
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
            vec![(String::new(), ())],
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
            (0..10).map(|n| (String::new(), n)).collect(),
            |next, hand_on| {
                std::iter::from_fn(next).for_each(hand_on);
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
    fn an_evaluator_stays_with_what_its_groups_share() {
        let groups = ["arm 1", "arm 2", "x86 1", "x86 2", "x86 3"];
        let waiting = Waiting::new(groups.map(|g| (g.split(' ').next().unwrap().to_owned(), g)).to_vec());
        let (mut one, mut two) = (None, None);
        let mut taken = Vec::new();
        while let Some(group) = waiting.next(&mut one) {
            taken.push(group);
            taken.extend(waiting.next(&mut two));
        }
        // The first takes of the larger kind, then the second finds both as large.
        assert_eq!(taken, ["x86 1", "arm 1", "x86 2", "arm 2", "x86 3"]);
    }
}
