//! The `clearway` command; everything it does is in the library.

fn main() -> std::process::ExitCode {
    clearway::cli::run()
}
