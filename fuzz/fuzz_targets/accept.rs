//! Feeds any bytes to [`sandserve_fuzz::accept`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(accept);
