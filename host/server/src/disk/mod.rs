//! File calls that may wait: for a disk, for a network, or for a process that is a file system. A core makes
//! in place what the kernel answers from memory. The rest goes to a few threads, so that a disk which stalls
//! keeps only those waiting who asked for what is on it.
//!
//! 1. [`Storage`] says where the files of a directory are, and so which calls may wait.
//! 2. [`read_now`] and [`is_in_memory`] ask the kernel for what it has in memory.
//! 3. [`aside`] makes a call on a thread that may wait. Threads are bounded: who finds none is told
//!    [`Stalled`]. They hold no lock meanwhile, and a call that is given up leaves its thread to itself.
//! 4. Closing waits too, for some: [`mark`] has such files closed aside.

#[cfg(target_os = "linux")]
pub(crate) mod open_files;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::lock::lock;
use crate::pace::round;

/// Threads for disks of this machine, and as many for everything else, so that neither takes those of the
/// other. A disk has little use for more requests at once, and a network for few more; each thread costs some
/// 20 KiB and is there only while it is needed.
const THREADS: usize = 32;
/// Calls that may wait for one of the threads. Each holds an instance: together with the threads' own, and for
/// both kinds, a quarter of those there may be.
const MAX_WAITING: usize = 224;
/// Time that a call waits for a thread: a disk that has to start spinning takes some seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time that files which are to be removed get when the process ends: less than a supervisor leaves it.
const FAREWELL: Duration = Duration::from_millis(500);

/// The place that files are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Memory: nothing waits.
    Memory,
    /// A disk of this machine: what the page cache holds does not wait.
    Local,
    /// A network or a process, or something unknown: every call may wait, even for what was there a moment ago.
    Far,
}

impl Storage {
    /// Returns the storage of `directory`. May wait.
    #[cfg(target_os = "linux")]
    fn of(directory: &File) -> Storage {
        rustix::fs::fstatfs(directory).map_or(Storage::Far, |found| of_kind(found.f_type as u32))
    }

    /// Returns [`Storage::Memory`]. Where the system is not Linux, it does not tell what would wait, and what
    /// is there is read in place.
    #[cfg(not(target_os = "linux"))]
    fn of(_: &File) -> Storage {
        Storage::Memory
    }
}

/// Returns the storage of file systems of one kind, given its number in `statfs(2)`.
#[cfg(target_os = "linux")]
fn of_kind(kind: u32) -> Storage {
    match kind {
        // tmpfs, ramfs.
        0x0102_1994 | 0x8584_58F6 => Storage::Memory,
        // ext, XFS, Btrfs, F2FS, ZFS, bcachefs, overlay, JFS, NILFS, ReiserFS.
        0xEF53 | 0x5846_5342 | 0x9123_683E | 0xF2F5_2010 | 0x2FC1_2FC1 | 0xCA45_1A4E
        | 0x794C_7630 | 0x3153_464A | 0x3434 | 0x5265_4973
        // SquashFS, EROFS, ISO 9660, UDF, FAT, exFAT, NTFS, HFS+, UBIFS, eCryptfs.
        | 0x7371_7368 | 0xE0F5_E1E2 | 0x9660 | 0x1501_3346 | 0x4D44 | 0x2011_BAB0
        | 0x7366_746E | 0x482B | 0x2405_1905 | 0xF15F => Storage::Local,
        // NFS, SMB, FUSE, 9P, Ceph, whatever comes.
        _ => Storage::Far,
    }
}

/// The root that components are granted: what lies beneath it on another file system is [`Storage::Far`],
/// whatever it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root(Storage);

impl Root {
    /// Returns what is known of the directory `root`. May wait.
    pub(crate) fn of(root: &File) -> Self {
        Root(Storage::of(root))
    }

    /// Returns the root of components that have none.
    pub(crate) fn none() -> Self {
        Root(Storage::Far)
    }

    /// Returns whether files beneath `other` wait for no more than those beneath this.
    pub(crate) fn is_like(self, other: Root) -> bool {
        self.0 == other.0
    }

    /// Returns the storage of `file`, which a component has open.
    pub(crate) fn storage_of(self, file: &Arc<File>) -> Storage {
        match MARKED_COUNT.load(Ordering::Relaxed) {
            0 => self.0,
            _ => marked(file).unwrap_or(self.0),
        }
    }
}

/// A call for which there is no thread, or that others could not wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stalled {
    /// All threads are in calls from which nothing comes, or others needed the instance.
    Busy,
    /// Nothing has come of the call in time.
    Silent,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the disk does not answer")
    }
}

impl Error for Stalled {}

/// The threads for one kind of storage, and those who wait for one.
struct Threads {
    free: Semaphore,
    waiting: AtomicUsize,
}

static LOCAL: Threads = Threads::new();
static FAR: Threads = Threads::new();

impl Threads {
    const fn new() -> Self {
        Threads {
            free: Semaphore::const_new(THREADS),
            waiting: AtomicUsize::new(0),
        }
    }

    fn of(storage: Storage) -> &'static Threads {
        match storage {
            Storage::Memory | Storage::Local => &LOCAL,
            Storage::Far => &FAR,
        }
    }

    async fn take(&'static self) -> Result<SemaphorePermit<'static>, Stalled> {
        match self.free.try_acquire() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(Stalled::Busy),
            Err(TryAcquireError::NoPermits) => {}
        }
        let waiting = Waiting::new(&self.waiting).ok_or(Stalled::Busy)?;
        let permit = timeout(PATIENCE, self.free.acquire()).await;
        drop(waiting);
        permit.ok().and_then(Result::ok).ok_or(Stalled::Busy)
    }
}

/// A place among the calls that wait for a thread.
struct Waiting(&'static AtomicUsize);

impl Waiting {
    fn new(waiting: &'static AtomicUsize) -> Option<Self> {
        let place = Waiting(waiting);
        // The place is dropped where it is one too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes `call`, which is about files in `storage`, on a thread that may wait. Who drops the future gives up
/// the outcome; the thread is free when the call has ended.
///
/// # Errors
/// [`Stalled::Busy`].
pub(crate) async fn aside<T: Send + 'static>(
    storage: Storage,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stalled> {
    let permit = Threads::of(storage).take().await?;
    let call = move || {
        let outcome = call();
        drop(permit);
        outcome
    };
    // Where the runtime ends, nobody waits any more.
    spawn_blocking(call).await.map_err(|_| Stalled::Busy)
}

/// Reads from `file` what is in memory, which may be less than there is.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if nothing of it is known to be in memory.
pub(crate) fn read_now(
    file: &File,
    storage: Storage,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    match storage {
        Storage::Memory => Ok(rustix::io::pread(file, buffer, offset)?),
        Storage::Local => read_cached(file, buffer, offset),
        Storage::Far => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Returns whether the last byte of `size` from `offset` is in memory, and the first too where there are
/// many. Caches fill and empty from one end on: the bytes between are there as well.
pub(crate) fn is_in_memory(file: &File, storage: Storage, offset: u64, size: u64) -> bool {
    /// Bytes that a disk reads at once, more or less.
    const NEIGHBOURS: u64 = 256 * 1024;
    let is_missing = |offset| {
        let read = read_now(file, storage, &mut [0], offset);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    match storage {
        Storage::Memory => true,
        Storage::Far => false,
        Storage::Local => {
            !is_missing(offset + size.saturating_sub(1))
                && (size <= NEIGHBOURS || !is_missing(offset))
        }
    }
}

#[cfg(target_os = "linux")]
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
    /// A file system, that of the root, cannot tell what is in memory. Its disk is one of this machine, and
    /// files are read in place.
    static CANNOT_TELL: AtomicBool = AtomicBool::new(false);
    if !CANNOT_TELL.load(Ordering::Relaxed) {
        let read = preadv2(
            file,
            &mut [io::IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => CANNOT_TELL.store(true, Ordering::Relaxed),
            read => return Ok(read?),
        }
    }
    Ok(pread(file, buffer, offset)?)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pread(file, buffer, offset)?)
}

/// Reads up to `size` bytes of `file` from `offset`, and waits for them.
///
/// # Errors
/// Any error of the file.
pub(crate) fn read_waiting(file: &File, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut length = 0;
    while length < size {
        match rustix::io::pread(file, &mut bytes[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(rustix::io::Errno::INTR) => {}
            // Bytes that were read before are not lost, and the error comes again.
            Err(_) if length > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Files that are not where the root is, or that closing may wait for, by where they are in memory.
static MARKED: Mutex<BTreeMap<usize, (Arc<File>, Storage)>> = Mutex::new(BTreeMap::new());
static MARKED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// A core looks for marked files that nobody has open any more: one for all, as each look is at all files.
static IS_SWEEPING: AtomicBool = AtomicBool::new(false);

/// Notes that `file` is in `storage`, and has it closed aside.
pub(crate) fn mark(file: &Arc<File>, storage: Storage) {
    let mut marked = lock(&MARKED);
    marked.insert(Arc::as_ptr(file).addr(), (file.clone(), storage));
    MARKED_COUNT.store(marked.len(), Ordering::Relaxed);
    drop(marked);
    if !IS_SWEEPING.swap(true, Ordering::SeqCst) {
        // Where this core looks no more, another may begin.
        round::begin(sweep, || IS_SWEEPING.store(false, Ordering::SeqCst));
    }
}

fn marked(file: &Arc<File>) -> Option<Storage> {
    let marked = lock(&MARKED);
    let (_, storage) = marked.get(&Arc::as_ptr(file).addr())?;
    Some(*storage)
}

/// Closes marked files that nobody has open any more, as far as there are threads for it. Returns false if
/// none are left.
fn sweep() -> bool {
    let mut marked = lock(&MARKED);
    let unused: Vec<_> = marked
        .extract_if(.., |_, (file, storage)| {
            Arc::strong_count(file) == 1 && Threads::of(*storage).free.available_permits() > 0
        })
        .collect();
    for (at, (file, storage)) in unused {
        match Threads::of(storage).free.try_acquire() {
            Ok(permit) => drop(spawn_blocking(move || {
                drop(file);
                drop(permit);
            })),
            Err(_) => drop(marked.insert(at, (file, storage))),
        }
    }
    MARKED_COUNT.store(marked.len(), Ordering::Relaxed);
    let is_left = !marked.is_empty();
    // Before the lock is free: a file that is marked next finds nobody who looks.
    IS_SWEEPING.store(is_left, Ordering::SeqCst);
    is_left
}

/// Has `call` made soon, when the calls before it are, by a thread that nobody waits for. Where there is no
/// thread it is not made.
pub(crate) fn later(call: impl FnOnce() + Send + 'static) {
    let mut queue = lock(&LATER);
    if queue.is_none() {
        let (sender, receiver) = mpsc::channel::<Call>();
        let make = move || receiver.iter().for_each(|call| call());
        let spawned = thread::Builder::new().name("later".into()).spawn(make);
        *queue = spawned.is_ok().then_some(sender);
    }
    if let Some(queue) = &*queue {
        let _ = queue.send(Box::new(call));
    }
}

/// Waits for the calls of [`later`], but not for a disk that stalls.
pub(crate) fn settle() {
    let (done, is_done) = mpsc::channel();
    later(move || {
        let _ = done.send(());
    });
    let _ = is_done.recv_timeout(FAREWELL);
}

type Call = Box<dyn FnOnce() + Send>;

static LATER: Mutex<Option<mpsc::Sender<Call>>> = Mutex::new(None);

/// A file and how far it has been read.
pub(crate) struct Cursor {
    pub(crate) file: Arc<File>,
    pub(crate) storage: Storage,
    /// The size of the file in bytes when it was opened, if that is known.
    pub(crate) size: Option<u64>,
    pub(crate) position: AtomicU64,
}

/// Looks at `file` as far as the system knows it without asking a network or a process.
#[cfg(target_os = "linux")]
pub(crate) fn statx_now(file: &File) -> rustix::io::Result<rustix::fs::Statx> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(file, c"", flags, StatxFlags::BASIC_STATS)
}

/// Returns how many bytes `file` has, as far as the system knows.
pub(crate) fn size_now(file: &File) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    let size = statx_now(file)?.stx_size;
    #[cfg(not(target_os = "linux"))]
    let size = file.metadata()?.len();
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_is_far_unless_it_is_known() {
        for (kind, storage) in [
            (0xEF53, Storage::Local),
            (0x0102_1994, Storage::Memory),
            (0x6969, Storage::Far),
            (0x6573_5546, Storage::Far),
            (0xFF53_4D42, Storage::Far),
            (0, Storage::Far),
        ] {
            assert_eq!(of_kind(kind), storage, "{kind:#x}");
        }
    }

    // One test, as all share the threads of the process.
    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_are_bounded_and_keep_nobody_else() {
        let mut ends = Vec::new();
        let mut hanging = Vec::new();
        for _ in 0..THREADS {
            let (end, ended) = channel::<()>();
            let call = aside(Storage::Far, move || ended.recv().is_err());
            hanging.push(tokio::spawn(call));
            ends.push(end);
        }
        while FAR.free.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(aside(Storage::Local, || 1).await, Ok(1));
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| tokio::spawn(aside(Storage::Far, || ())))
            .collect();
        while FAR.waiting.load(Ordering::Relaxed) < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(aside(Storage::Far, || ()).await, Err(Stalled::Busy));
        // A caller that gives up leaves the thread in its call.
        hanging.drain(..).for_each(|call| call.abort());
        tokio::time::advance(PATIENCE).await;
        for call in waiting {
            assert_eq!(call.await.expect("no panic"), Err(Stalled::Busy));
        }
        assert_eq!(FAR.free.available_permits(), 0);
        ends.clear();
        assert_eq!(aside(Storage::Far, || 2).await, Ok(2));
    }

    #[tokio::test]
    async fn a_marked_file_is_closed_when_nobody_has_it_open() {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let root = Root(Storage::Local);
        assert_eq!(root.storage_of(&file), Storage::Local);
        mark(&file, Storage::Far);
        assert_eq!(root.storage_of(&file), Storage::Far);
        let weak = Arc::downgrade(&file);
        drop(file);
        while weak.strong_count() > 0 {
            tokio::time::sleep(round::ROUND).await;
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_just_written_is_in_memory() {
        let file = tempfile::tempfile().expect("a file");
        rustix::io::pwrite(&file, &[7; 300_000], 0).expect("written");
        let storage = Storage::of(&file);
        assert!(is_in_memory(&file, storage, 0, 300_000) || storage == Storage::Far);
        assert!(!is_in_memory(&file, Storage::Far, 0, 300_000));
        assert_eq!(read_waiting(&file, 299_999, 5).expect("read"), [7]);
    }
}
