//! A short period in which each core looks at what it keeps for a moment: all of it at once, as a timer for
//! each would go off about as often as requests come, with many clients.

use std::time::Duration;

/// Time between two looks of a core.
pub(crate) const ROUND: Duration = Duration::from_millis(10);

/// Calls `look` on this core every [`ROUND`] from now on, for as long as it returns that there is something
/// left.
pub(crate) fn begin(mut look: impl FnMut() -> bool + Send + 'static) {
    tokio::spawn(async move {
        let mut is_left = true;
        while is_left {
            tokio::time::sleep(ROUND).await;
            is_left = look();
        }
    });
}
