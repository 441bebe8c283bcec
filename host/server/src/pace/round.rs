//! A short period in which each core looks at what it keeps for a moment: all of it at once, as a timer for
//! each would go off about as often as requests come, with many clients.

use std::time::Duration;

/// Time between two looks of a core.
pub(crate) const ROUND: Duration = Duration::from_millis(10);

/// Calls `look` on this core every [`ROUND`] from now on, for as long as it returns that there is something
/// left. Calls `cut_off` instead where the runtime ends before that: on this thread, nobody looks any more.
pub(crate) fn begin(look: fn() -> bool, cut_off: fn()) {
    let mut rounds = Rounds {
        cut_off,
        is_over: false,
    };
    tokio::spawn(async move {
        // All of it is moved here, to be dropped with the task.
        let rounds = &mut rounds;
        while !rounds.is_over {
            tokio::time::sleep(ROUND).await;
            rounds.is_over = !look();
        }
    });
}

/// The task that looks.
struct Rounds {
    cut_off: fn(),
    is_over: bool,
}

impl Drop for Rounds {
    fn drop(&mut self) {
        if !self.is_over {
            (self.cut_off)();
        }
    }
}
