//! What an interrupt does.

use std::sync::atomic::{AtomicBool, Ordering};

use stitchpack::Error;

/// Set when the person asks to stop.
pub static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Set while standard input is waited for; nothing has been written then.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Listens for interrupts. Without a handler an interrupt still ends the process, and leaves only what a later run removes.
pub fn listen() {
    drop(ctrlc::set_handler(interrupted));
}

/// Asks the work to stop. Reading standard input cannot be asked, and whoever interrupts twice does not want to wait: then the
/// process ends at once, and what is unfinished is removed by a later run.
fn interrupted() {
    if CANCELLED.swap(true, Ordering::Relaxed) || WAITING.load(Ordering::Relaxed) {
        eprintln!("error: {}", Error::Interrupted);
        std::process::exit(130);
    }
}

/// Does what no interrupt can ask to stop.
pub fn while_waiting<T>(work: impl FnOnce() -> T) -> T {
    WAITING.store(true, Ordering::Relaxed);
    let done = work();
    WAITING.store(false, Ordering::Relaxed);
    done
}
