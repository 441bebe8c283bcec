//! `sandserve completions SHELL` and `sandserve man`: what is made from the definition of the command
//! line, so that it says what `--help` says.

use std::io::{self, Write};

use clap_complete::Shell;
use clap_mangen::Man;

use crate::command_line;

/// Prints completions for `shell`.
///
/// # Errors
/// A stdout that takes nothing.
pub(crate) fn completions(shell: Shell) -> io::Result<()> {
    let mut script = Vec::new();
    let mut definition = command_line::server_and_commands();
    clap_complete::generate(shell, &mut definition, "sandserve", &mut script);
    print(&script)
}

/// Prints a manual page in roff.
///
/// # Errors
/// A stdout that takes nothing.
pub(crate) fn man() -> io::Result<()> {
    let mut page = Vec::new();
    Man::new(command_line::server()).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}
