//! The end of a process that has served: all that is not to be left to the system is in one value.

use crate::cgi::{self, ToStarter};
use crate::instance::received;
use crate::log;
use crate::strikes;

/// The last things that a process does, which are done when this value is dropped:
///
/// 1. The files that instances are receiving are removed. A disk that stalls is not waited for.
/// 2. The scripts that are children of this process are ended. A process that starts scripts for this one is told that
///    there will be no more orders: what finished scripts have left running may go on there.
/// 3. The counts of limits that no line was written of yet are logged.
/// 4. The lines of the log are written, for which at most a second is waited.
///
/// Files, scripts and log are those of the process, whichever server they belong to: a process has one such value, from
/// before its first server until it exits.
#[derive(Debug, Default)]
#[must_use = "it tidies up when it is dropped"]
pub struct TidyUp {
    starter: Option<ToStarter>,
}

impl TidyUp {
    /// Makes the value of a process whose scripts are started by `starter`, if there is one.
    pub fn new(starter: Option<ToStarter>) -> Self {
        TidyUp { starter }
    }
}

impl Drop for TidyUp {
    fn drop(&mut self) {
        received::remove_all();
        cgi::end_all();
        if let Some(starter) = &self.starter {
            starter.say_farewell();
        }
        strikes::log_counts();
        log::flush_log();
    }
}
