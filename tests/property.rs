//! The oracle against the packet path, on generated configurations and traffic.

mod oracle;
