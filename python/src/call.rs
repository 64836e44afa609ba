//! Long work on behalf of a Python thread: without the GIL, but with ears for Ctrl-C and the caller's progress function.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use stitchpack::{Progress, Result, Workers};

use crate::error::raise;

/// How often Python is asked: taking the GIL more often would cost more than it tells.
const PAUSE: Duration = Duration::from_millis(50);

/// How a long call is made.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Call {
    /// 0 is one thread a core.
    pub threads: usize,
    /// Called with the stage's name, the bytes that passed and the bytes in all; False stops the work.
    pub progress: Option<Py<PyAny>>,
}

impl Call {
    /// Does the work without the GIL.
    ///
    /// # Errors
    /// What the work gives; what a signal handler (KeyboardInterrupt) or the progress function raised.
    pub fn run<T: Send>(self, py: Python<'_>, work: impl FnOnce(&Workers) -> Result<T> + Send) -> PyResult<T> {
        let watch = Arc::new(Watch::new(self.progress));
        let workers = Workers::new(self.threads, watch.clone());
        let outcome = py.detach(|| work(&workers));
        match watch.heard() {
            Some(raised) => Err(raised),
            None => outcome.map_err(|e| raise(py, &e)),
        }
    }
}

/// Hears for the library what Python has to say.
struct Watch {
    /// The thread that made the call. Signals reach the main thread only, and the progress function expects its caller's.
    caller: ThreadId,
    progress: Option<Py<PyAny>>,
    stage: Mutex<(&'static str, u64)>,
    done: AtomicU64,
    asked: Mutex<Instant>,
    raised: Mutex<Option<PyErr>>,
    stop: AtomicBool,
}

impl Watch {
    fn new(progress: Option<Py<PyAny>>) -> Self {
        Watch {
            caller: thread::current().id(),
            progress,
            stage: Mutex::new(("", 0)),
            done: AtomicU64::new(0),
            asked: Mutex::new(Instant::now()),
            raised: Mutex::new(None),
            stop: AtomicBool::new(false),
        }
    }

    fn heard(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks Python, and remembers an answer that ends the work.
    fn ask(&self) {
        let answer = Python::attach(|py| {
            py.check_signals()?;
            let Some(progress) = &self.progress else { return Ok(true) };
            let (name, total) = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = progress.call1(py, (name, self.done.load(Ordering::Relaxed), total))?;
            Ok(!answer.bind(py).is(pyo3::types::PyBool::new(py, false)))
        });
        match answer {
            Ok(true) => return,
            Ok(false) => {}
            Err(e) => *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(e),
        }
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Progress for Watch {
    fn stage(&self, name: &'static str, total: u64) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = (name, total);
        self.done.store(0, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        if thread::current().id() == self.caller && !self.stop.load(Ordering::Relaxed) {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.elapsed() >= PAUSE {
                self.ask();
                *asked = Instant::now();
            }
        }
        self.stop.load(Ordering::Relaxed)
    }
}
