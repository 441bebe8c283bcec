//! Feeds any bytes to [`sandserve_fuzz::serve`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(serve);
