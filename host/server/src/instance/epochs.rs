//! Time that instances compute: they let others run, and do not compute for ever.

use std::time::Duration;

use tokio::task::yield_now;
use wasmtime::{Error, Result, StoreContextMut, UpdateDeadline};

use crate::instance::clock::TICK;
use crate::instance::state::State;
use crate::pace::turns;
use crate::pace::watch::Abandoned;

/// Ticks until an instance that has just begun lets others run. The first of them may come at once, and the
/// instance has computed for one at least when the second does.
const FIRST_TICKS: u32 = 2;
/// Longest time that an instance may compute without reading a byte of its connection.
pub(crate) const MAX_COMPUTING: Duration = Duration::from_secs(30);

/// Notes that the instance of `store` begins to compute, or has waited and goes on.
pub(crate) fn begin(store: &mut StoreContextMut<State>) {
    let state = store.data_mut();
    state.computing = Duration::ZERO;
    state.clock.wake();
    store.set_epoch_deadline(FIRST_TICKS.into());
}

/// Interrupts an instance that has run for a tick. The instance goes on when others have run; the next time
/// it has to wait for its turn among all that compute for long.
///
/// # Errors
/// [`Abandoned::Overtaken`] if others need the instance more, and an error for an instance that has computed
/// for [`MAX_COMPUTING`].
pub(crate) fn interrupt(mut store: StoreContextMut<State>) -> Result<UpdateDeadline> {
    let state = store.data_mut();
    state.clock.wake();
    let is_long = !state.computing.is_zero();
    state.computing += TICK;
    turns::note_tick();
    let socket = state.attached.as_ref().map(|attached| &attached.socket);
    if let Some(socket) = socket
        && socket.note_computing(is_long)
    {
        return Err(Abandoned::Overtaken.into());
    }
    if state.computing > MAX_COMPUTING {
        let seconds = MAX_COMPUTING.as_secs();
        return Err(Error::msg(format!(
            "no answer after {seconds} seconds of computing"
        )));
    }
    Ok(match socket {
        Some(socket) if is_long => let_others_run(turns::go_on(socket.client())),
        _ => let_others_run(yield_now()),
    })
}

/// Lets an instance go on for a tick when `others` have run.
pub(crate) fn let_others_run(others: impl Future<Output = ()> + Send + 'static) -> UpdateDeadline {
    UpdateDeadline::YieldCustom(1, Box::pin(others))
}
