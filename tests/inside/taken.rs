//! A thread of another process, which makes the system calls that it is told to.

use std::ffi::c_long;
use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::ptr;

use libc::{c_int, c_void, pid_t, user_regs_struct};

/// The instruction that makes a system call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes that are written into a stack at once, and those between what it is used for and what is written.
const BELOW: u64 = 4096;
/// The highest number of an error.
const MAX_ERROR: i64 = 4095;

/// A thread that has stopped, and goes on as it was when this is dropped.
pub(super) struct Taken {
    thread: pid_t,
    memory: File,
    registers: user_regs_struct,
    /// The address of a [`SYSCALL`].
    instruction: u64,
}

impl Taken {
    /// Stops `thread` of `process`.
    pub(super) fn new(process: u32, thread: u32) -> Taken {
        let thread = pid_t::try_from(thread).expect("a process id");
        ptrace(libc::PTRACE_ATTACH, thread, ptr::null_mut()).expect("a thread to stop");
        wait(thread);
        let memory = format!("/proc/{process}/mem");
        let memory = File::options().read(true).write(true).open(memory);
        let memory = memory.expect("the memory of the process");
        Taken {
            registers: registers(thread),
            instruction: find_instruction(process, &memory),
            thread,
            memory,
        }
    }

    /// Writes `bytes` into the process. Returns their address, which is good until others are written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> i64 {
        assert!(bytes.len() < BELOW as usize, "{bytes:?}");
        let address = (self.registers.rsp - 2 * BELOW) & !0xf;
        self.memory.write_all_at(bytes, address).expect("a stack");
        address.cast_signed()
    }

    /// Returns what is at `address` of the process.
    pub(super) fn read<const N: usize>(&self, address: i64) -> [u8; N] {
        let mut bytes = [0; N];
        let at = address.cast_unsigned();
        self.memory.read_exact_at(&mut bytes, at).expect("memory");
        bytes
    }

    /// Makes the system call `number`. Returns its result, or the number of its error.
    pub(super) fn call(&mut self, number: c_long, arguments: [i64; 6]) -> Result<i64, i32> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments.map(i64::cast_unsigned);
        let mut registers = user_regs_struct {
            rax: number.cast_unsigned(),
            // Nothing that was interrupted is taken up again.
            orig_rax: u64::MAX,
            rip: self.instruction,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        set_registers(self.thread, &mut registers);
        ptrace(libc::PTRACE_SINGLESTEP, self.thread, ptr::null_mut()).expect("a step");
        wait(self.thread);
        let result = self::registers(self.thread).rax.cast_signed();
        match -result {
            error @ 1..=MAX_ERROR => Err(error as i32),
            _ => Ok(result),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        set_registers(self.thread, &mut self.registers);
        let _ = ptrace(libc::PTRACE_DETACH, self.thread, ptr::null_mut());
    }
}

/// Returns the address of a [`SYSCALL`] in the code that the kernel gives to each process.
fn find_instruction(process: u32, memory: &File) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("a process");
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let (range, _) = line.and_then(|line| line.split_once(' ')).expect("code");
    let (start, end) = range.split_once('-').expect("a range");
    let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("a number"));
    let mut code = vec![0; (end - start) as usize];
    memory.read_exact_at(&mut code, start).expect("code");
    let mut windows = code.windows(SYSCALL.len());
    let at = windows.position(|bytes| bytes == SYSCALL).expect("a call");
    start + at as u64
}

fn registers(thread: pid_t) -> user_regs_struct {
    // SAFETY: registers are numbers.
    #[allow(unsafe_code)]
    let mut registers: user_regs_struct = unsafe { mem::zeroed() };
    let data = ptr::from_mut(&mut registers).cast();
    ptrace(libc::PTRACE_GETREGS, thread, data).expect("registers");
    registers
}

fn set_registers(thread: pid_t, registers: &mut user_regs_struct) {
    let data = ptr::from_mut(registers).cast();
    ptrace(libc::PTRACE_SETREGS, thread, data).expect("registers");
}

fn ptrace(request: libc::c_uint, thread: pid_t, data: *mut c_void) -> io::Result<()> {
    // SAFETY: `data` is null or points to registers, which is what the requests made here take.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ptrace(request, thread, ptr::null_mut::<c_void>(), data) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits until `thread` has stopped.
fn wait(thread: pid_t) {
    let mut status: c_int = 0;
    // SAFETY: `status` lives until the call returns.
    #[allow(unsafe_code)]
    let id = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
    assert_eq!(id, thread, "{}", io::Error::last_os_error());
    assert!(libc::WIFSTOPPED(status), "{status}");
}
