//! Text that answers and log lines are made of.

pub(crate) mod decimal;
pub(crate) mod excerpt;
pub(crate) mod percent;
