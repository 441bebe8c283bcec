//! Mutexes whose holders leave nothing half done: one that has panicked does not keep others out.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for `mutex` and holds it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
