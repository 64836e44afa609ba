//! A progress bar with bytes, rate and time left, where somebody is looking.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stitchpack::Progress;

/// The bar of the stage under way.
pub struct Bar {
    shown: bool,
    cancelled: &'static AtomicBool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    pub fn new(shown: bool, cancelled: &'static AtomicBool) -> Self {
        Bar { shown, cancelled, bar: Mutex::new(None) }
    }
}

impl Progress for Bar {
    fn stage(&self, name: &'static str, total: u64) {
        if !self.shown {
            return;
        }
        let template = "{msg:>18} {wide_bar:.cyan/blue} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.set_message(name);
        let old = self.bar.lock().ok().and_then(|mut slot| slot.replace(bar));
        old.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn advance(&self, bytes: u64) {
        if let (true, Ok(slot)) = (self.shown, self.bar.lock()) {
            slot.iter().for_each(|bar| bar.inc(bytes));
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(mut slot) = self.bar.lock() {
            slot.take().iter().for_each(ProgressBar::finish_and_clear);
        }
    }
}
