//! The file system that files come from: that of the host (`host`), or with the feature `bundle` the files in the
//! component itself (`bundle`). Both go by the names of `wasi:filesystem`.

#[cfg(feature = "bundle")]
mod bundle;
#[cfg(not(feature = "bundle"))]
mod host;

#[cfg(feature = "bundle")]
pub use bundle::Descriptor;
#[cfg(feature = "bundle")]
pub(crate) use bundle::{WITHOUT_DIRECTORY, digest, get_directories, settings, splice};
#[cfg(not(feature = "bundle"))]
pub use host::Descriptor;
#[cfg(not(feature = "bundle"))]
pub(crate) use host::{WITHOUT_DIRECTORY, digest, get_directories, splice};
pub(crate) use wasi::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, OpenFlags,
    PathFlags,
};

/// The start of a digest: as much as no two contents have in common.
pub(crate) type Digest = [u64; 2];
