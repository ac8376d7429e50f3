//! Works on machines side by side, so many at once, wave after wave.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
};

/// Applies `work` to every item, at most `limit` at once, and returns what became of them in their order. Before an item
/// `may_start` is asked, and says of an item that may not what becomes of it.
pub fn take<T: Sync, R: Send>(
    items: &[T],
    limit: usize,
    may_start: impl Fn(&T) -> Option<R> + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let waiting: Mutex<VecDeque<(usize, &T)>> = Mutex::new(items.iter().enumerate().collect());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..limit.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((place, item)) = next else { break };
                    let result = may_start(item).unwrap_or_else(|| work(item));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn so_many_at_once_and_results_in_order() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |n: &usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            n * 2
        };
        let items: Vec<usize> = (0..20).collect();
        let done = take(&items, 4, |n| (*n == 7).then_some(0), work);
        assert_eq!(done, items.iter().map(|n| if *n == 7 { 0 } else { n * 2 }).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert!(take(&[], 4, |_| None, work).is_empty());
    }
}
