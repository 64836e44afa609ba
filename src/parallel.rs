//! Work on numbered items with several threads, and the same outcome for any number of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Hears how far a long piece of work has come, and may stop it.
pub trait Progress: Send + Sync {
    /// A stage begins; `total` bytes of model will pass.
    fn stage(&self, name: &'static str, total: u64);
    /// `bytes` of model have passed.
    fn advance(&self, bytes: u64);
    /// Whether to stop. Asked often; the work ends with [`Error::Interrupted`] and leaves nothing behind.
    fn cancelled(&self) -> bool;
}

/// Hears nothing, stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// How many threads work, and who hears of it.
#[derive(Clone)]
pub struct Workers {
    threads: usize,
    progress: Arc<dyn Progress>,
}

impl Default for Workers {
    fn default() -> Self {
        Workers::new(0, Arc::new(Quiet))
    }
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workers({})", self.threads)
    }
}

impl Workers {
    /// `threads` 0 means one a core.
    pub fn new(threads: usize, progress: Arc<dyn Progress>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Workers { threads: if threads == 0 { cores() } else { threads }, progress }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.progress.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Runs `work(state, i)` for every `i` below `n`, begun in ascending order, each thread with a state of its own, and
    /// gives the states back. On failure the error of the smallest failing `i` is returned.
    pub(crate) fn for_each<S: Send>(
        &self,
        n: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let first: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let run = || {
            let mut s = state();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= n || failed.load(Ordering::Relaxed) {
                    return s;
                }
                if let Err(e) = self.check_cancelled().and_then(|()| work(&mut s, i)) {
                    // Items begin in order, so an item below the failing one has begun and will report for itself.
                    failed.store(true, Ordering::Relaxed);
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(j, _)| i < *j) {
                        *first = Some((i, e));
                    }
                }
            }
        };
        let helpers = self.threads.min(n).saturating_sub(1);
        let states = std::thread::scope(|scope| {
            // Where no more threads are to be had, those that are there do the work.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, run).ok();
            let handles: Vec<_> = (0..helpers).map_while(start).collect();
            let mut states = vec![run()];
            for handle in handles {
                states.push(handle.join().map_err(|_| Error::Internal("a worker thread panicked".into()))?);
            }
            Ok(states)
        })?;
        match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, e)) => Err(e),
            None => Ok(states),
        }
    }

    /// Runs `work(i)` for every `i` below `n` in any order, and hands the results to `sink` in ascending order, holding only a
    /// few at a time.
    pub(crate) fn in_order<T: Send>(
        &self,
        n: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
        mut sink: impl FnMut(usize, T) -> Result<()>,
    ) -> Result<()> {
        let window = self.threads * 4;
        for start in (0..n).step_by(window) {
            let len = window.min(n - start);
            let slots: Vec<Mutex<Option<T>>> = (0..len).map(|_| Mutex::new(None)).collect();
            self.for_each(
                len,
                || (),
                |(), i| {
                    let value = work(start + i)?;
                    if let Some(slot) = slots.get(i) {
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                    }
                    Ok(())
                },
            )?;
            let values: VecDeque<_> =
                slots.into_iter().filter_map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
            for (i, value) in values.into_iter().enumerate() {
                sink(start + i, value)?;
            }
        }
        Ok(())
    }
}
