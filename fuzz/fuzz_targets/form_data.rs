//! Feeds any bytes to [`sandserve_fuzz::form_data`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(form_data);
