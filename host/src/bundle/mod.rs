//! A directory made a component, which serves it wherever components run: `sandserve bundle DIR -o FILE`.
//!
//! 1. `tree`: what is in the directory, and by `links` where its links lead.
//! 2. `coded`: files compressed, where that is asked for.
//! 3. `table`: what is written about it before the contents of its files.
//! 4. `component`: the component that this program was built with, open where all that belongs.
//! 5. `output`: a file beside its place, moved there when it is whole.
//!
//! Whoever waits at a terminal sees how far the work is (`progress`).
//!
//! A bundle is the same, byte for byte, whenever it is made of the same directory and settings.

mod coded;
mod component;
mod links;
mod output;
mod progress;
mod table;
mod tree;

use std::io::Read;
use std::path::Path;

use ring::digest::{Context, SHA256};
use sandserve_components::{BUNDLE, BUNDLE_WITH_ENVIRONMENT};

use crate::{explain, say};
use component::Frame;
pub use component::Place;
use output::Output;
pub use output::Partial;
use progress::{Progress, Work};
use table::Table;
use tree::{CHANGED, Found, Identity, Tree};

/// The most bytes that a component may have: no engine takes a larger module.
const MAX_SIZE: u64 = 1 << 30;
/// The bytes that are read of a file at once.
const READ_SIZE: usize = 1 << 20;

/// The things that a bundle is made of, and its place.
#[derive(Debug)]
pub struct Order<'a> {
    /// The directory.
    pub directory: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// The time of every file and directory, in seconds since the epoch, if not their own.
    pub modified: Option<u64>,
    /// The settings that the files are served with, each a variable and its value.
    pub settings: Vec<(String, String)>,
    /// True if variables in the environment of a host override the settings: then the host has to have one.
    pub with_environment: bool,
    /// True if files that become smaller by it are compressed, beside themselves.
    pub compress: bool,
    /// A file that has to be there: the page of a 404.
    pub not_found: Option<&'a str>,
    /// The place for the name of the unfinished file, for whoever ends the process meanwhile.
    pub partial: &'a Partial,
}

/// Makes the component. Says which files are left out, and returns what was done, in one line.
///
/// # Errors
/// In one line, why there is none. Nothing is left then, and what was in the place of the output before stays.
pub fn create(order: &Order) -> Result<String, String> {
    let directory = order.directory.display();
    let cannot = |reason: String| format!("cannot bundle `{directory}`: {reason}");
    let mut tree = Tree::read(order.directory, order.output, None).map_err(cannot)?;
    for (path, reason) in &tree.skipped {
        say(format_args!("skipped `{}`: {reason}", path.escape_debug()));
    }
    if let Some(name) = order.not_found {
        let file = links::find(&tree, name);
        if !file.is_some_and(|file| matches!(tree.nodes[file].found, Found::File(_))) {
            return Err(cannot(format!("it has no file `{name}` for --not-found")));
        }
    }
    // Before the long part of the work.
    let contents = tree.size();
    check_size(contents, contents).map_err(cannot)?;
    if order.compress {
        let mut progress = Progress::new(Work::Compressing, contents);
        tree = Tree::read(order.directory, order.output, Some(&mut progress)).map_err(cannot)?;
    }
    let mut table = Table::new(&tree, &order.settings, order.modified).map_err(cannot)?;
    let size = table.size();
    let component = match order.with_environment {
        true => BUNDLE_WITH_ENVIRONMENT,
        false => BUNDLE,
    };
    check_size(size, size + component.len() as u64).map_err(cannot)?;
    let frame = Frame::new(component, size).ok_or("the component has no place for files")?;
    let mut output = Output::create(order.output, order.partial)?;
    output.write(&frame.before)?;
    // Here in their place when the digests are known.
    output.write(&table.to_bytes())?;
    let mut progress = Progress::new(Work::Writing, size);
    for (index, node) in tree.nodes.iter().enumerate() {
        let digest = match &node.found {
            Found::File(identity) => {
                let path = tree.path(index);
                let full = order.directory.join(&path);
                copy(&full, *identity, &mut output, &mut progress)
                    .map_err(|error| cannot(format!("`{path}`: {error}")))?
            }
            Found::Coded(content) => {
                output.write(content)?;
                digest(Context::new(&SHA256), content)
            }
            Found::Directory(_) | Found::Link(_) => continue,
        };
        table.set_digest(index, digest);
    }
    drop(progress);
    output.write(&frame.after)?;
    output.write_at(frame.before.len() as u64, &table.to_bytes())?;
    let all = output.finish()?;
    let (files, output) = (tree.files().count(), order.output.display());
    Ok(format!(
        "Bundled {files} files into `{output}`, {all} bytes. Serve it with `sandserve --handler {output}` or \
         `wasmtime serve {output}`."
    ))
}

/// Checks that a component of `all` bytes can be, of which `size` are what was to be bundled.
fn check_size(size: u64, all: u64) -> Result<(), String> {
    if all <= MAX_SIZE {
        return Ok(());
    }
    let (size, most) = (size.div_ceil(1 << 20), MAX_SIZE >> 20);
    Err(format!(
        "it has {size} MiB, and a component at most {most} MiB"
    ))
}

/// Copies the content of the file `path`, which is the one of `identity`, and returns its digest.
fn copy(
    path: &Path,
    identity: Identity,
    output: &mut Output,
    progress: &mut Progress,
) -> Result<[u8; 32], String> {
    let mut file = identity.open(path)?;
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; READ_SIZE];
    let mut left = identity.size;
    loop {
        let read = file.read(&mut buffer).map_err(|error| explain(&error))?;
        if read == 0 {
            break;
        }
        left = left.checked_sub(read as u64).ok_or(CHANGED)?;
        digest.update(&buffer[..read]);
        output.write(&buffer[..read])?;
        progress.add(read as u64);
    }
    if left > 0 {
        return Err(CHANGED.into());
    }
    identity.check(&file)?;
    Ok(self::digest(digest, &[]))
}

/// Returns the digest of what `context` has and `rest`.
fn digest(mut context: Context, rest: &[u8]) -> [u8; 32] {
    context.update(rest);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_changes_meanwhile_is_not_bundled() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file.txt");
        let partial = Partial::default();
        let output = directory.path().join("site.wasm");
        let mut output = Output::create(&output, &partial).expect("a file");
        let mut copy = |identity| {
            copy(
                &path,
                identity,
                &mut output,
                &mut Progress::new(Work::Writing, 0),
            )
        };
        let write = |content: &str| {
            fs::write(&path, content).expect("written");
            Identity::of(&fs::metadata(&path).expect("a file"))
        };
        let identity = write("as it was");
        let digest = ring::digest::digest(&SHA256, b"as it was");
        assert_eq!(
            copy(identity).as_ref().map(|digest| &digest[..]),
            Ok(digest.as_ref())
        );
        let changed = Err("it has changed meanwhile; try again".to_owned());
        let longer = write("longer than it was");
        assert_eq!(copy(identity), changed);
        fs::remove_file(&path).expect("removed");
        assert!(copy(longer).is_err());
        symlink("/etc/passwd", &path).expect("a link");
        assert!(copy(longer).is_err());
        let fifo = rustix::fs::FileType::Fifo;
        fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a FIFO");
        // Nobody waits for who writes into it.
        assert_eq!(copy(longer), changed);
    }
}
