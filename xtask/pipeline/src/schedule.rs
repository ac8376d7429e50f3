//! Runs evaluators and realisers side by side on one pool: each derivation is handed on the moment it exists. The stages
//! themselves arrive as closures.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How many of each stage run at once.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    pub evaluators: usize,
    pub realisers: usize,
}

/// What waits between the stages.
struct Queue<T> {
    state: Mutex<Between<T>>,
    changed: Condvar,
}

struct Between<T> {
    waiting: VecDeque<T>,
    producers: usize,
    /// Takers that work on what they took.
    busy: usize,
}

/// How long a taker waits for more once something is there, and again after each that comes: what is evaluated
/// in quick succession is realised by one process, and nobody notices where hosts take seconds.
const PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What one taker takes at most. One `nix build` of 512 derivations needs many times as long as eight of 64: what it
/// does for each grows with how many there are.
const MOST_AT_ONCE: usize = 64;

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, Between<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: T) {
        self.lock().waiting.push_back(item);
        self.changed.notify_all();
    }

    /// True if it was the last one.
    fn one_producer_less(&self) -> bool {
        let mut state = self.lock();
        state.producers -= 1;
        self.changed.notify_all();
        state.producers == 0
    }

    fn done(&self) {
        self.lock().busy -= 1;
    }

    /// Everything that waits, and whether it is all that is left to do: no more will come and nobody else is
    /// at work. `None` once nothing will come any more.
    fn take(&self) -> Option<(Vec<T>, bool)> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.producers == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let began = Instant::now();
        let mut seen = 0;
        let more_may_come =
            |state: &Between<T>, seen| state.producers > 0 && (seen + 1..MOST_AT_ONCE).contains(&state.waiting.len());
        while more_may_come(&state, seen) && began.elapsed() < LONGEST_PAUSE {
            seen = state.waiting.len();
            let quiet = |state: &mut Between<T>| state.producers > 0 && state.waiting.len() == seen;
            let waited = self.changed.wait_timeout_while(state, PAUSE, quiet);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = state.waiting.len().min(MOST_AT_ONCE);
        let batch: Vec<T> = state.waiting.drain(..count).collect();
        if batch.is_empty() {
            // Another taker was quicker.
            drop(state);
            return self.take();
        }
        let last = state.producers == 0 && state.busy == 0 && state.waiting.is_empty();
        state.busy += 1;
        Some((batch, last))
    }
}

/// Groups of work that wait for an evaluator, each under the name of what it shares with others.
struct Waiting<G>(Mutex<BTreeMap<String, VecDeque<G>>>);

impl<G> Waiting<G> {
    fn new(all: Vec<(String, G)>) -> Self {
        let mut groups: BTreeMap<String, VecDeque<G>> = BTreeMap::new();
        for (kind, group) in all {
            groups.entry(kind).or_default().push_back(group);
        }
        Self(Mutex::new(groups))
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
/// is given, and what it leaves behind is dropped when nobody waits for that; each realiser takes what is waiting, and is told if that is all that is left. `evaluated` is called
/// when the last evaluator has ended, while realisers go on. The first error of a stage is returned after
/// everything else has been given its chance.
pub fn pipeline<G: Send, T: Send, L: Send>(
    width: Width,
    ready: Vec<T>,
    groups: Vec<(String, G)>,
    evaluate: impl Fn(&dyn Fn() -> Option<G>, &(dyn Fn(T) + Sync)) -> Result<L> + Sync,
    evaluated: impl Fn() + Sync,
    realise: impl Fn(Vec<T>, bool) -> Result<()> + Sync,
) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(width.evaluators + width.realisers)
        .thread_name(|n| format!("stage-{n}"))
        .build()
        .context("cannot start worker threads")?;
    let waiting = Waiting::new(groups);
    let between = Between { waiting: VecDeque::from(ready), producers: width.evaluators, busy: 0 };
    let queue = Queue { state: Mutex::new(between), changed: Condvar::new() };
    let failures: Mutex<Vec<anyhow::Error>> = Mutex::new(Vec::new());
    let keep = |result: Result<()>| {
        if let Err(error) = result {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push(error);
        }
    };
    pool.in_place_scope(|scope| {
        let (waiting, queue, keep, evaluate, evaluated) = (&waiting, &queue, &keep, &evaluate, &evaluated);
        for _ in 0..width.evaluators {
            scope.spawn(move |scope| {
                let last = RefCell::new(None);
                match evaluate(&|| waiting.next(&mut last.borrow_mut()), &|item| queue.push(item)) {
                    Ok(left) => scope.spawn(move |_| drop(left)),
                    Err(error) => keep(Err(error)),
                }
                if queue.one_producer_less() {
                    evaluated();
                }
            });
        }
        for _ in 0..width.realisers {
            scope.spawn(|_| {
                while let Some((batch, last)) = queue.take() {
                    keep(realise(batch, last));
                    queue.done();
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
            || {},
            |batch, _| {
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
                let deadline = Instant::now() + Duration::from_secs(10);
                while built.load(Ordering::SeqCst) == 0 {
                    assert!(Instant::now() < deadline, "nothing was built while evaluating");
                    std::thread::yield_now();
                }
                Ok(())
            },
            || {},
            |batch, _| {
                built.fetch_add(batch.len(), Ordering::SeqCst);
                Ok(())
            },
        )
        .unwrap();
    }

    #[test]
    fn what_comes_in_quick_succession_is_realised_at_once() {
        let batches = Mutex::new(Vec::new());
        pipeline(
            Width { evaluators: 1, realisers: 3 },
            vec![],
            (0..30).map(|n| (String::new(), n)).collect(),
            |next, hand_on| {
                std::iter::from_fn(next).for_each(hand_on);
                Ok(())
            },
            || {},
            |batch, last| {
                batches.lock().unwrap().push((batch.len(), last));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(batches.into_inner().unwrap(), [(30, true)]);
    }

    #[test]
    fn a_batch_has_its_limit() {
        let batches = Mutex::new(Vec::new());
        pipeline(
            Width { evaluators: 0, realisers: 1 },
            (0..150).collect(),
            Vec::<(String, ())>::new(),
            |_, _| Ok(()),
            || {},
            |batch, last| {
                batches.lock().unwrap().push((batch.len(), last));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(batches.into_inner().unwrap(), [(64, false), (64, false), (22, true)]);
    }

    #[test]
    fn evaluation_is_over_once_and_before_the_last_batch_is_realised() {
        let over = AtomicUsize::new(0);
        let width = Width { evaluators: 2, realisers: 1 };
        pipeline(
            width,
            vec![],
            vec![(String::new(), 1)],
            |next, hand_on| {
                std::iter::from_fn(next).for_each(hand_on);
                Ok(())
            },
            || _ = over.fetch_add(1, Ordering::SeqCst),
            |_, _| {
                let deadline = Instant::now() + Duration::from_secs(10);
                while over.load(Ordering::SeqCst) == 0 {
                    assert!(Instant::now() < deadline, "nobody was told that evaluation is over");
                    std::thread::yield_now();
                }
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(over.into_inner(), 1);
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
            || {},
            |batch: Vec<i32>, _| {
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
