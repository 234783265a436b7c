//! The command line.

/// Runs the command and says how it ended.
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
