//! Feeds any bytes to [`sandserve_fuzz::head`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(head);
