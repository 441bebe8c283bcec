//! The progress of long work, in a line on a terminal.

use std::io::{self, IsTerminal, Write};

/// The characters of the bar.
const WIDTH: u64 = 30;

/// Work that may be long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Compressing,
    Writing,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Compressing => "Compressing",
            Work::Writing => "Writing",
        }
    }

    /// Returns the bytes that take about a second.
    fn in_a_second(self) -> u64 {
        match self {
            Work::Compressing => 256 << 10,
            Work::Writing => 128 << 20,
        }
    }
}

/// The part of the work that is done. Its line is removed with it.
pub(crate) struct Progress {
    work: Work,
    all: u64,
    done: u64,
    shown: Option<u64>,
}

impl Progress {
    /// Begins work on `all` bytes. It is shown on a terminal, if it is longer than a second.
    pub(crate) fn new(work: Work, all: u64) -> Self {
        let is_shown = all >= work.in_a_second() && io::stderr().is_terminal();
        Progress {
            work,
            all,
            done: 0,
            shown: is_shown.then_some(0),
        }
    }

    /// Counts `bytes` as done.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        let percent = percent(self.done, self.all);
        if let Some(shown) = &mut self.shown
            && *shown != percent
        {
            *shown = percent;
            let line = line(self.work.name(), percent);
            // Nobody misses a line that cannot be written.
            let _ = write!(io::stderr(), "\r{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(percent) = self.shown {
            let width = line(self.work.name(), percent).len();
            let _ = write!(io::stderr(), "\r{:width$}\r", "");
        }
    }
}

fn percent(done: u64, all: u64) -> u64 {
    // Files may grow meanwhile.
    (done.saturating_mul(100) / all.max(1)).min(100)
}

fn line(name: &str, percent: u64) -> String {
    let full = (percent * WIDTH / 100) as usize;
    let bar = "#".repeat(full);
    let width = WIDTH as usize;
    format!("{name} [{bar:width$}] {percent:3} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        for (done, all, expected) in [
            (0, 0, "Writing [                              ]   0 %"),
            (1, 3, "Writing [#########                     ]  33 %"),
            (3, 3, "Writing [##############################] 100 %"),
            (4, 3, "Writing [##############################] 100 %"),
            (
                u64::MAX,
                u64::MAX,
                "Writing [                              ]   1 %",
            ),
        ] {
            assert_eq!(
                line("Writing", percent(done, all)),
                expected,
                "{done} {all}"
            );
        }
    }
}
