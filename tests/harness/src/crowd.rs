//! More clients at once than the server has instances.

/// More than `MAX_INSTANCES` of the host.
pub const CROWD: usize = 2200;
/// The most tests with a crowd that run at once.
const CROWDS: usize = 4;

/// Lets this process have the connections of a crowd open, where a shell allows 1,024 files.
///
/// # Panics
/// If the system does not allow as many.
pub fn expect_crowd() {
    let wanted = (CROWDS * CROWD) as u64;
    let allowed = rlimit::increase_nofile_limit(wanted).expect("a limit");
    assert!(allowed >= wanted, "only {allowed} open files are allowed");
}
