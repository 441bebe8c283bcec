//! The way out of a connection: bytes that were written and have not yet left, and parts of files between
//! them. It is bounded, so that a client which does not read costs a connection and no more than that.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

#[cfg(target_os = "linux")]
use crate::disk::open_files;
use crate::disk::{self, Storage};
use crate::memory::{Budget, Taken};
use crate::transport::Transport;
use crate::transport::tcp::More;

/// Bytes of memory that are held before a writer has to wait. Most pages and listings are smaller.
const MAX_BYTES: usize = 1024 * 1024;
/// Parts of files that may wait: more than one answer has, as ranges are limited to fewer. Each keeps a
/// descriptor open.
const MAX_FILES: usize = 32;
/// Bytes of memory that are kept for what is written next. Each connection may have as many; a budget counts what
/// goes beyond.
const KEEP_SIZE: usize = 64 * 1024;
/// A file part up to this size, in bytes, is copied to leave together with the head before it, which
/// takes less than to send the two.
const SMALL_FILE: usize = 16 * 1024;
/// Bytes of a file that a disk is waited for at once. They take as much memory of a budget until they have left.
const FETCH_SIZE: u64 = 128 * 1024;
/// Bytes of a file that a disk is waited for where the budget has less. They do not count, as the other memory that
/// each connection may have.
const SMALL_FETCH: usize = SMALL_FILE;
/// Bytes of one response that leave before other connections get their turn.
pub(crate) const SEND_SIZE: u64 = 2 * 1024 * 1024;

/// A queue of bytes and parts of files.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// Bytes that have left, the first of `bytes`.
    sent: usize,
    files: VecDeque<FilePart>,
    /// The memory of `bytes` beyond [`KEEP_SIZE`], if it was ever more.
    taken: Option<Taken>,
}

/// A piece of a file on its way out.
#[derive(Debug)]
struct FilePart {
    /// Bytes of the outbox that go before the part.
    at: usize,
    file: Arc<File>,
    offset: u64,
    left: u64,
    storage: Storage,
    /// Bytes from `offset` on that were seen in memory. They are sent without another look.
    seen: u64,
    /// Bytes from `offset` on that a disk was waited for, and that are in no other memory for sure.
    fetched: Vec<u8>,
    /// The memory of `fetched`, if it counts.
    fetched_memory: Option<Taken>,
    /// The disk has nothing more.
    is_cut: bool,
}

/// The bytes of a file that have to be waited for.
#[derive(Debug)]
pub(crate) struct Missing {
    file: Arc<File>,
    pub(crate) storage: Storage,
    offset: u64,
    size: usize,
    /// The memory that they will take, if it counts.
    memory: Option<Taken>,
}

/// The work of one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Bytes, and perhaps a small file with them.
    Bytes(usize),
    /// A file, this much of it.
    File(usize),
    /// Nothing: the file has to be waited for.
    Missing,
}

impl Outbox {
    /// Adds `bytes`. The writer must have asked for room with [`Self::reserve`].
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds `length` bytes of `file` from `offset`.
    pub(crate) fn push_file(
        &mut self,
        file: &Arc<File>,
        storage: Storage,
        offset: u64,
        length: u64,
    ) {
        if length > 0 {
            self.files.push_back(FilePart {
                at: self.bytes.len(),
                file: file.clone(),
                offset,
                left: length,
                storage,
                seen: 0,
                fetched: Vec::new(),
                fetched_memory: None,
                is_cut: false,
            });
        }
    }

    /// Returns whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.files.is_empty()
    }

    /// Makes room for `size` bytes, or for as many as there may be more, with memory of `budget`. Returns for
    /// how many bytes there is room: none where no file part may be added.
    pub(crate) fn reserve(&mut self, size: usize, budget: &Arc<Budget>) -> usize {
        if self.files.len() >= MAX_FILES {
            return 0;
        }
        self.compact();
        let wanted = self.bytes.len().saturating_add(size).min(MAX_BYTES);
        if wanted > self.limit() {
            self.grow(wanted, budget);
        }
        self.free().min(size)
    }

    /// Returns how many bytes may be added, with some memory of `budget` where there is no room; 0 as well
    /// where no file part may be added.
    pub(crate) fn room(&mut self, budget: &Arc<Budget>) -> usize {
        match self.reserve(1, budget) {
            0 => 0,
            _ => self.free(),
        }
    }

    fn free(&self) -> usize {
        self.limit().saturating_sub(self.bytes.len())
    }

    /// Returns how many bytes may be held: [`KEEP_SIZE`], and as many as were taken from a budget.
    fn limit(&self) -> usize {
        let taken = self.taken.as_ref().map_or(0, Taken::bytes);
        KEEP_SIZE + taken as usize
    }

    /// Takes memory for `wanted` bytes in all, or more, as little would soon be too little again; or takes
    /// none.
    #[cold]
    fn grow(&mut self, wanted: usize, budget: &Arc<Budget>) {
        let limit = wanted.next_power_of_two();
        let more = limit - self.limit();
        let taken = self.taken.get_or_insert_with(|| Taken::new(budget.clone()));
        if taken.take(more as u64) {
            self.bytes
                .reserve_exact(limit.saturating_sub(self.bytes.len()));
        }
    }

    /// Forgets all that has not left.
    pub(crate) fn clear(&mut self) {
        self.files.clear();
        self.sent = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_SIZE {
            self.bytes = Vec::new();
        }
        self.taken = None;
    }

    /// Gives back the memory that is kept for later, if the outbox is empty.
    pub(crate) fn release_memory(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }

    /// Sends as much as one system call takes. A small file is copied to `buffer` on its way.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing can be sent now; [`io::ErrorKind::UnexpectedEof`] for a
    /// file that was cut off meanwhile.
    pub(crate) fn send_some(
        &mut self,
        transport: &mut Transport,
        buffer: &mut [u8],
    ) -> io::Result<Sent> {
        let Some(part) = self.files.front_mut() else {
            let sent = transport.send(&self.bytes[self.sent..], More::No)?;
            self.sent += sent;
            return Ok(Sent::Bytes(sent));
        };
        let before = &self.bytes[self.sent..part.at];
        let sent = if before.is_empty() {
            part.send(transport)?
        } else {
            let sent = match part.copy_behind(before, buffer) {
                Ok(Some(both)) => transport.send(both, More::No)?,
                Ok(None) => transport.send(before, More::Yes)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Sent::Missing);
                }
                Err(error) => return Err(error),
            };
            let of_file = sent.saturating_sub(before.len());
            self.sent += sent - of_file;
            part.move_on(of_file);
            Sent::Bytes(sent)
        };
        if part.left == 0 {
            self.files.pop_front();
        }
        Ok(sent)
    }

    /// Returns the bytes of a file to wait for, if a file is next: fewer where `budget` has no memory for many.
    pub(crate) fn missing(&self, budget: &Arc<Budget>) -> Option<Missing> {
        let part = self.files.front()?;
        let wanted = part.left.min(FETCH_SIZE) as usize;
        let memory = (wanted > SMALL_FETCH)
            .then(|| Taken::new(budget.clone()))
            .and_then(|mut memory| memory.take(wanted as u64).then_some(memory));
        let size = match memory {
            Some(_) => wanted,
            None => wanted.min(SMALL_FETCH),
        };
        Some(Missing {
            file: part.file.clone(),
            storage: part.storage,
            offset: part.offset,
            size,
            memory,
        })
    }

    /// Adds `bytes` of a file, which were `missing`, if they still are.
    pub(crate) fn put(&mut self, missing: Missing, bytes: Vec<u8>) {
        if let Some(part) = self.files.front_mut()
            && Arc::ptr_eq(&part.file, &missing.file)
            && part.offset == missing.offset
        {
            part.is_cut = bytes.is_empty();
            part.fetched = bytes;
            part.fetched_memory = missing.memory;
        }
    }

    /// Moves what is left to the front where that is less than what has left.
    fn compact(&mut self) {
        if self.sent < KEEP_SIZE.max(self.bytes.len() / 2) {
            return;
        }
        self.bytes.drain(..self.sent);
        for part in &mut self.files {
            part.at -= self.sent;
        }
        self.sent = 0;
    }
}

impl FilePart {
    /// Returns the bytes `before` and then all of the part, copied to `buffer`. `None` if the part is too
    /// large for that, or no longer whole.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the part has to be waited for.
    fn copy_behind<'b>(&self, before: &[u8], buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX);
        if size > SMALL_FILE || before.len() > buffer.len() - size {
            return Ok(None);
        }
        let both = &mut buffer[..before.len() + size];
        let (start, rest) = both.split_at_mut(before.len());
        start.copy_from_slice(before);
        Ok(self.copy(rest)?.then_some(both))
    }

    /// Copies all of the part to `rest`. Returns false if the part is no longer whole.
    fn copy(&self, rest: &mut [u8]) -> io::Result<bool> {
        if !self.fetched.is_empty() || self.is_cut {
            let is_whole = self.fetched.len() == rest.len();
            if is_whole {
                rest.copy_from_slice(&self.fetched);
            }
            return Ok(is_whole);
        }
        let mut read = 0;
        // Less may be in memory than there is.
        while read < rest.len() {
            let offset = self.offset + read as u64;
            match disk::read_now(&self.file, self.storage, &mut rest[read..], offset)? {
                0 => return Ok(false),
                more => read += more,
            }
        }
        Ok(true)
    }

    /// Sends as much of the part as one system call takes.
    fn send(&mut self, transport: &mut Transport) -> io::Result<Sent> {
        if !self.fetched.is_empty() {
            let is_all = self.fetched.len() as u64 == self.left;
            let more = if is_all { More::No } else { More::Yes };
            let sent = transport.send(&self.fetched, more)?;
            self.move_on(sent);
            return Ok(Sent::File(sent));
        }
        let size = self.left.min(SEND_SIZE);
        if self.seen == 0 && !self.is_cut {
            if !self.is_in_memory(size) {
                return Ok(Sent::Missing);
            }
            self.seen = size;
        }
        let size = size.min(self.seen) as usize;
        let mut offset = self.offset;
        let sent = match self.is_cut {
            true => 0,
            false => transport.send_file(&self.file, &mut offset, size)?,
        };
        if sent == 0 {
            // Cut off meanwhile. The client was promised more: only closing tells it.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.move_on(sent);
        Ok(Sent::File(sent))
    }

    /// Returns whether the next `size` bytes of the part are in memory. Of a file that many ask for, this is
    /// known.
    #[cfg(target_os = "linux")]
    fn is_in_memory(&self, size: u64) -> bool {
        let end = self.offset + size;
        if self.storage == Storage::Memory || open_files::seen(&self.file) >= end {
            return true;
        }
        let is_in_memory = disk::is_in_memory(&self.file, self.storage, self.offset, size);
        if is_in_memory && self.offset == 0 {
            open_files::note_seen(&self.file, end);
        }
        is_in_memory
    }

    #[cfg(not(target_os = "linux"))]
    fn is_in_memory(&self, size: u64) -> bool {
        disk::is_in_memory(&self.file, self.storage, self.offset, size)
    }

    /// Leaves out the first `size` bytes of the part, which were sent.
    fn move_on(&mut self, size: usize) {
        self.offset += size as u64;
        self.left -= size as u64;
        self.seen = self.seen.saturating_sub(size as u64);
        self.fetched.drain(..size.min(self.fetched.len()));
        if self.fetched.is_empty() {
            self.fetched = Vec::new();
            self.fetched_memory = None;
        }
    }
}

impl Missing {
    /// Returns what reads the missing bytes, and waits for them. It fails with any error of the file.
    pub(crate) fn reader(&self) -> impl FnOnce() -> io::Result<Vec<u8>> + Send + use<> {
        let Missing {
            ref file,
            offset,
            size,
            ..
        } = *self;
        let file = file.clone();
        move || disk::read_waiting(&file, offset, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use crate::transport::tcp::Stream;

    #[test]
    fn pieces_leave_in_the_order_they_were_written_in() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
        let (server, _) = listener.accept().expect("a connection");
        server.set_nonblocking(true).expect("set");
        let mut transport = Transport::Plain(Stream::new(server));
        let mut file = tempfile::tempfile().expect("a file");
        let content: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
        file.write_all(&content).expect("written");
        let file = Arc::new(file);

        let budget = Budget::new(None);
        let mut outbox = Outbox::default();
        let mut buffer = [0; 32 * 1024];
        let mut wanted = Vec::new();
        let mut received = Vec::new();
        for round in 0..300_usize {
            let head = vec![b'h'; round * 11 % 2000];
            let (start, length) = (round * 7, [0, 10, 20_000, 90_000][round % 4]);
            outbox.push(&head);
            outbox.push_file(&file, Storage::Local, start as u64, length as u64);
            wanted.extend_from_slice(&head);
            wanted.extend_from_slice(&content[start..start + length]);
            // Never all of it, so that what is written comes behind what waits.
            while !outbox.is_empty() && (round % 3 > 0 || outbox.room(&budget) == 0) {
                match outbox.send_some(&mut transport, &mut buffer) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let mut some = [0; 64 * 1024];
                        let size = client.read(&mut some).expect("bytes");
                        received.extend_from_slice(&some[..size]);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        while !outbox.is_empty() {
            let _ = outbox.send_some(&mut transport, &mut buffer);
            let mut some = [0; 64 * 1024];
            let size = client.read(&mut some).expect("bytes");
            received.extend_from_slice(&some[..size]);
        }
        drop(transport);
        client.read_to_end(&mut received).expect("the rest");
        assert!(received == wanted, "{} of {}", received.len(), wanted.len());
    }

    #[test]
    fn what_has_left_makes_room_and_costs_no_memory() {
        let budget = Budget::new(None);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.reserve(2 * MAX_BYTES, &budget), MAX_BYTES);
        outbox.push(&vec![0; MAX_BYTES]);
        assert_eq!(outbox.bytes.capacity(), MAX_BYTES);
        assert_eq!(outbox.room(&budget), 0);
        outbox.sent = MAX_BYTES - 1;
        assert_eq!(outbox.room(&budget), MAX_BYTES - 1);
        outbox.push(b"more");
        assert_eq!((outbox.bytes.len(), outbox.sent), (5, 0));
        outbox.sent = 5;
        outbox.clear();
        assert_eq!(outbox.bytes.capacity(), 0);
    }

    #[test]
    fn what_does_not_leave_takes_no_more_memory_than_there_is() {
        let budget = Budget::new(Some(8 * KEEP_SIZE as u64));
        let outboxes = budget.of_buffers();
        let fill = |outbox: &mut Outbox| {
            let mut size = 0;
            while outbox.room(&outboxes) > 0 {
                let now = outbox.reserve(10_000, &outboxes);
                outbox.push(&vec![0; now]);
                size += now;
            }
            assert!(outbox.bytes.capacity() < 2 * outbox.limit());
            size
        };
        let mut filled = [(); 4].map(|()| Outbox::default());
        let sizes = filled.each_mut().map(fill);
        // Of the budget that there is for them, four times as much as each has without.
        assert_eq!(sizes, [4, 2, 1, 1].map(|steps| steps * KEEP_SIZE));
        filled[0].clear();
        assert_eq!(fill(&mut filled[3]), 3 * KEEP_SIZE);
        let [_, mut other, ..] = filled;
        other.sent = other.bytes.len();
        other.release_memory();
        assert_eq!(fill(&mut Outbox::default()), 2 * KEEP_SIZE);
    }
}
