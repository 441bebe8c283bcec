//! The facts that Linux tells of a process (proc(5)).

use std::fs;
use std::path::PathBuf;

/// Returns what the system tells about the process or thread `id` by `name`, as `VmHWM`; `None` if there is no such process,
/// or nothing of that name.
pub fn status(id: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(found, value)| (found == name).then(|| value.trim().to_owned()))
}

/// Returns the most memory that the process `id` has had, in bytes.
pub fn peak_memory(id: u32) -> u64 {
    let peak = status(id, "VmHWM").expect("a process");
    let kib = peak
        .strip_suffix(" kB")
        .and_then(|kib| kib.parse::<u64>().ok());
    1024 * kib.unwrap_or_else(|| panic!("no number: {peak}"))
}

/// Returns the threads of the process `id`.
pub fn threads(id: u32) -> Vec<u32> {
    numbers_in(id, "task")
}

/// Returns the descriptors that the process `id` has open.
pub fn descriptors(id: u32) -> Vec<u32> {
    numbers_in(id, "fd")
}

/// Returns the files that the process `id` has open, as far as the test may see them.
pub fn open_files(id: u32) -> Vec<PathBuf> {
    let files = fs::read_dir(format!("/proc/{id}/fd")).expect("a process");
    let files = files.flatten();
    files.flat_map(|file| fs::read_link(file.path())).collect()
}

fn numbers_in(id: u32, folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{id}/{folder}")).expect("a process");
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}
