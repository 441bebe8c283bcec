//! The contract between host and component beyond `wit/`: names and syntax that both sides use, each
//! defined once. Pure text, without dependencies.
//!
//! | module | contract |
//! | --- | --- |
//! | [`settings`] | every setting: its variable, its option, its kind, who takes it |
//! | [`syntax`] | what the values of settings must look like |
//! | [`fields`] | the fields of every response |
//! | [`head`] | the largest head of a request |
//! | [`credentials`] | users and passwords |
//! | [`proxies`] | proxies that are trusted |
//! | [`file_names`] | names of files that are not UTF-8, as text |
//! | [`incomplete`] | names of files that are still being received |
//! | [`local_time`] | offsets from UTC |
//! | [`bundle`] | the files and settings in a component that `sandserve bundle` has made |
//! | [`escape`] | text that cannot break out of where it is written |

pub mod bundle;
pub mod credentials;
pub mod escape;
pub mod fields;
pub mod file_names;
pub mod head;
pub mod incomplete;
pub mod local_time;
pub mod proxies;
pub mod settings;
pub mod syntax;
