//! `manual`: man pages and completions, made from what the command line says of itself.

use std::fs;
use std::io;
use std::path::Path;

use clap_complete::{Shell, generate_to};

use super::args::{self, ManualArgs};
use super::terminal::Terminal;
use super::{Exit, Refused};

const NAME: &str = "clearway";

/// Writes `man1/` with a page for each command, and `completions/` with a file for each shell.
pub fn run(args: &ManualArgs, _: &mut Terminal) -> Result<Exit, Refused> {
    let folder = &args.folder;
    write(folder).map_err(|e| format!("{}: cannot be written: {e}", folder.display()))?;
    Ok(Exit::Done)
}

fn write(folder: &Path) -> io::Result<()> {
    let pages = folder.join("man1");
    fs::create_dir_all(&pages)?;
    let commands: clap::Command = args::commands();
    clap_mangen::generate_to(commands, &pages)?;
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut args::commands(), NAME, &completions)?;
    }
    Ok(())
}
