//! `manual`: man pages and completions, made from what the command line says of itself.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use super::args::{self, ManualArgs};
use super::terminal::Terminal;
use super::{Exit, Refused};

const NAME: &str = "clearway";

/// Writes `man1/` with a page for each command and each command of a command, and `completions/` with a file for each shell.
pub fn run(args: &ManualArgs, _: &mut Terminal) -> Result<Exit, Refused> {
    let folder = &args.folder;
    write(folder).map_err(|e| format!("{}: cannot be written: {e}", folder.display()))?;
    Ok(Exit::Done)
}

fn write(folder: &Path) -> io::Result<()> {
    let pages = folder.join("man1");
    fs::create_dir_all(&pages)?;
    let mut all = args::commands().disable_help_subcommand(true);
    all.build();
    all_pages(&all, &pages)?;
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut args::commands(), NAME, &completions)?;
    }
    Ok(())
}

/// The pages of a command and of those below it.
fn all_pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        all_pages(below, folder)?;
    }
    page(command, folder)
}

/// The page of one command.
fn page(command: &clap::Command, folder: &Path) -> io::Result<()> {
    let source = concat!("clearway ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("Clearway");
    let out = &mut BufWriter::new(File::create(folder.join(man.get_filename()))?);
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(out)?;
    }
    if let Some(more) = command.get_after_long_help() {
        write!(out, ".SH NOTES\n{}", roff(&more.to_string()))?;
    }
    out.flush()
}

/// Text for man: lines that begin with a blank, commands and lists, stay as they are; the others flow.
fn roff(text: &str) -> String {
    let mut page = String::new();
    let mut kept = false;
    for line in text.lines() {
        let keep = line.starts_with(' ');
        if keep != kept {
            page.push_str(if keep { ".br\n.nf\n" } else { ".fi\n" });
            kept = keep;
        }
        if line.is_empty() {
            page.push_str(".PP\n");
            continue;
        }
        if line.starts_with(['.', '\'']) {
            page.push_str("\\&");
        }
        page.push_str(
            &line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga"),
        );
        page.push('\n');
    }
    if kept {
        page.push_str(".fi\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_on_their_lines() {
        let page = roff("Runs it.\n\nExample:\n  a --b \\\n      c\n\n.x 'y'");
        let expected =
            "Runs it.\n.PP\nExample:\n.br\n.nf\n  a \\-\\-b \\e\n      c\n.fi\n.PP\n\\&.x \\(aqy\\(aq\n";
        assert_eq!(page, expected);
    }
}
