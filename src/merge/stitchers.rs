//! The tensors that are being stitched, shared by threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::merge::model::StitchedModel;
use crate::merge::reader::TensorReader;

/// Tensors that threads are working on, with their tables: made when the first block is asked for, forgotten when others
/// have come.
pub(crate) struct Stitchers<'a> {
    model: &'a StitchedModel<'a>,
    recent: Mutex<VecDeque<(String, Arc<TensorReader<'a>>)>>,
}

impl<'a> Stitchers<'a> {
    const MOST: usize = 16;

    pub fn new(model: &'a StitchedModel<'a>) -> Self {
        Stitchers { model, recent: Mutex::default() }
    }

    pub fn get(&self, name: &str) -> Result<Arc<TensorReader<'a>>> {
        let lock = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stitcher)) = lock().iter().find(|(n, _)| n == name) {
            return Ok(stitcher.clone());
        }
        let stitcher = Arc::new(self.model.reader(name)?);
        let mut recent = lock();
        recent.push_back((name.to_string(), stitcher.clone()));
        if recent.len() > Self::MOST {
            recent.pop_front();
        }
        Ok(stitcher)
    }
}
