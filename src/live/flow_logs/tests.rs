//! Flow logs of made-up configurations, read back.
