//! The memory of all instances and buffers together: a budget, so that a crowd is refused before the system runs
//! out and ends the process.
//!
//! An instance that gets nothing more ends ([`OutOfMemory`]); an outbox that gets nothing more is full, so that
//! the instance which writes to it waits, and can be taken back.

use std::error::Error;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{ResourceLimiter, Result};

/// The most memory that one instance may use, in bytes, unless something else is said.
pub(crate) const MAX_MEMORY: usize = 64 * 1024 * 1024;
/// The share of the memory of the machine, or of the control group, that instances have: one part of so many.
const SHARE: u64 = 2;
/// The budget where nobody tells how much memory there is, in bytes.
const UNKNOWN: u64 = 1024 * 1024 * 1024;
/// The share of the budget that buffers have at most: one part of so many, so that slow readers leave something
/// to instances.
const SHARE_OF_BUFFERS: u64 = 2;
/// Memory that a request should find, in bytes: more than an instance takes for most of them.
const ROOM: u64 = 4 * 1024 * 1024;
/// The part of the budget that it should find where that is less: one of so many.
const SHARE_OF_ROOM: u64 = 4;

/// A budget, in bytes, of everything that holds a [`Taken`] of it.
#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    taken: AtomicU64,
    /// The budget that this is a part of.
    whole: Option<Arc<Budget>>,
}

impl Budget {
    /// Returns a budget of `max` bytes, or of a share of the memory that this process may have.
    pub(crate) fn new(max: Option<u64>) -> Arc<Self> {
        Arc::new(Budget {
            max: max.unwrap_or_else(default_memory_budget),
            taken: AtomicU64::new(0),
            whole: None,
        })
    }

    /// Returns the part of the budget that the buffers of connections have.
    pub(crate) fn of_buffers(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Budget {
            max: self.max / SHARE_OF_BUFFERS,
            taken: AtomicU64::new(0),
            whole: Some(self.clone()),
        })
    }

    /// Returns whether there is enough left for a request to begin.
    pub(crate) fn has_room(&self) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        self.max.saturating_sub(taken) >= ROOM.min(self.max / SHARE_OF_ROOM)
    }

    /// Returns how many bytes are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, or none.
    fn take(&self, bytes: u64) -> bool {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let is_left = |whole: &Arc<Budget>| whole.take(bytes);
        let fits =
            taken.saturating_add(bytes) <= self.max && self.whole.as_ref().is_none_or(is_left);
        if !fits {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

/// The part of a budget that an instance, a listing, an inbox or an outbox has taken, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Taken {
    /// Begins with nothing of `budget`.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Taken { budget, bytes: 0 }
    }

    /// Takes `bytes` more, or none.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let is_taken = self.budget.take(bytes);
        self.bytes += if is_taken { bytes } else { 0 };
        is_taken
    }

    /// Has `bytes` in all: takes more, or none, or gives the rest back.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.budget.give_back(surplus);
            self.bytes = bytes;
            return true;
        }
        self.take(bytes - self.bytes)
    }

    /// Returns how many bytes were taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// The memory of one instance: what it has taken of the budget of all, and the most that it may take.
#[derive(Debug)]
pub(crate) struct InstanceMemory {
    taken: Taken,
    max: usize,
    is_refused: bool,
}

impl InstanceMemory {
    /// Begins with nothing of `budget`, of which `max` bytes may be taken.
    pub(crate) fn new(budget: Arc<Budget>, max: usize) -> Self {
        InstanceMemory {
            taken: Taken::new(budget),
            max,
            is_refused: false,
        }
    }

    /// Returns a part of the budget for what the host keeps on behalf of the instance. Nothing is taken yet.
    pub(crate) fn beside(&self) -> Taken {
        Taken::new(self.taken.budget.clone())
    }

    /// Returns how many bytes were taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.taken.bytes()
    }

    /// Returns the most bytes that may be taken, if more was asked for.
    pub(crate) fn refused(&self) -> Option<usize> {
        self.is_refused.then_some(self.max)
    }
}

impl ResourceLimiter for InstanceMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        if desired > self.max {
            // The fault is its own, however much is left.
            self.is_refused = true;
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        match self.taken.take(more) {
            true => Ok(true),
            // It ends: what an instance says that gets no memory would be about itself.
            false => Err(OutOfMemory.into()),
        }
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        // The pool bounds tables.
        Ok(true)
    }
}

/// The budget had less than an instance needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the memory of all instances is used up")
    }
}

impl Error for OutOfMemory {}

/// Returns the bytes of memory that all instances and buffers may have together on this machine where nothing else is
/// said.
pub fn default_memory_budget() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_of_meminfo);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(limit_of_group);
    let least = machine.into_iter().chain(group).min();
    least.map_or(UNKNOWN, |bytes| bytes / SHARE)
}

/// Returns the memory of the machine in bytes.
fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the least limit of the control groups (version 2) that `/proc/self/cgroup` names, in bytes: that of
/// the group and of each above it.
fn limit_of_group(text: &str) -> Option<u64> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let names = path.split('/').filter(|name| !name.is_empty());
    let mut directory = String::from("/sys/fs/cgroup");
    let mut limits = Vec::from([limit_in(&directory)]);
    for name in names {
        directory.push('/');
        directory.push_str(name);
        limits.push(limit_in(&directory));
    }
    limits.into_iter().flatten().min()
}

fn limit_in(directory: &str) -> Option<u64> {
    let limit = fs::read_to_string(format!("{directory}/memory.max")).ok()?;
    limit.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let budget = Budget::new(Some(100));
        let mut one = InstanceMemory::new(budget.clone(), 100);
        let mut other = InstanceMemory::new(budget.clone(), 100);
        assert!(one.memory_growing(0, 60, None).unwrap());
        let refused = other.memory_growing(0, 41, None).unwrap_err();
        assert!(refused.is::<OutOfMemory>());
        assert!(other.memory_growing(0, 40, None).unwrap());
        drop(one);
        assert!(other.memory_growing(40, 100, None).unwrap());
        assert_eq!(other.refused(), None);
        assert!(!other.memory_growing(100, 101, None).unwrap());
        assert_eq!(other.refused(), Some(100));
        drop(other);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn outboxes_leave_a_part_to_instances_and_take_nothing_from_them() {
        let budget = Budget::new(Some(100));
        let outboxes = budget.of_buffers();
        let mut outbox = Taken::new(outboxes.clone());
        let mut instance = Taken::new(budget.clone());
        assert!(outbox.take(40));
        assert!(!outbox.take(11));
        assert!(instance.take(55) && !budget.has_room());
        assert!(!outbox.take(6), "there is no more of the whole");
        assert!(outbox.take(5));
        assert_eq!(outbox.bytes(), 45);
        assert!(!outbox.hold(46));
        assert!(outbox.hold(30) && outbox.hold(44));
        assert_eq!(outbox.bytes(), 44);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 99);
        drop(outbox);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 55);
        assert_eq!(outboxes.taken.load(Ordering::Relaxed), 0);
        assert!(budget.has_room());
    }

    #[test]
    fn the_memory_of_a_machine_is_known() {
        let text = "MemTotal:       24689764 kB\nMemFree:        1 kB\n";
        assert_eq!(total_of_meminfo(text), Some(24_689_764 * 1024));
        assert_eq!(total_of_meminfo("MemTotal: 1 GB\n"), None);
        assert_eq!(limit_of_group("1:name=systemd:/\n"), None);
        assert!(default_memory_budget() > 0);
    }
}
