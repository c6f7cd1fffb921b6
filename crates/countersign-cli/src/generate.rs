//! `countersign generate`: manual pages, shell completions and the table of modules, from the same
//! definitions as `--help` and the registry.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use countersign::modules::Registry;

use crate::{
    args,
    report::{Exit, Report, print},
};

/// Write manual pages, completions and the table of modules.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign generate man docs/man
  countersign generate completions /usr/share/bash-completion/completions --shell bash
  countersign generate modules docs/modules.md")]
pub(crate) struct GenerateArgs {
    /// What to write.
    what: What,
    /// Where to: a folder for `man` and `completions`, a file for `modules`.
    to: PathBuf,
    /// The shell to write completions for; all of them if not given.
    #[arg(long)]
    shell: Option<Shell>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Manual pages, section 1.
    Man,
    /// Shell completions.
    Completions,
    /// The table of modules, in Markdown.
    Modules,
}

pub(crate) fn run(args: GenerateArgs) -> Result<(), Report> {
    let written = match args.what {
        What::Man => manual(&args.to),
        What::Completions => completions(&args),
        What::Modules => fs::write(&args.to, modules()),
    };
    let place = args.to.display();
    written.map_err(|error| {
        Report::new(Exit::Failure, format!("{place}: {error}")).fix("name a place that can be written to")
    })?;
    print(&format!("wrote {place}\n"))
}

fn manual(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = args::Args::command().disable_help_subcommand(true);
    command.build();
    let mut commands = vec![&command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()));
        let page = Man::new(command.clone()).source("countersign").manual("User Commands");
        let mut text = Vec::new();
        page.render(&mut text)?;
        fs::write(folder.join(page.get_filename()), sectioned(&String::from_utf8_lossy(&text)))?;
    }
    Ok(())
}

/// A page whose closing words stand in the sections that readers of manuals look for: the generator
/// puts them all into one called EXTRA.
fn sectioned(page: &str) -> String {
    let Some((head, rest)) = page.split_once("\n.SH EXTRA\n") else { return page.to_owned() };
    let (extra, tail) = rest.split_once("\n.SH ").map_or((rest, None), |(extra, tail)| (extra, Some(tail)));
    let mut text = head.to_owned();
    for paragraph in extra.trim_end().split("\n\n") {
        let words = |title| paragraph.strip_prefix(title).map(str::trim_start);
        let section = if let Some(commands) = paragraph.strip_prefix("Examples:\n") {
            format!("EXAMPLES\n.nf\n{commands}\n.fi")
        } else if let Some(codes) = words("Exit codes:") {
            format!("EXIT STATUS\n{codes}")
        } else if let Some(signals) = words("Signals:") {
            format!("SIGNALS\n{signals}")
        } else {
            format!("NOTES\n{paragraph}")
        };
        text.push_str(&format!("\n.SH {section}"));
    }
    text.push('\n');
    tail.iter().for_each(|tail| text.push_str(&format!(".SH {tail}")));
    text
}

fn completions(args: &GenerateArgs) -> io::Result<()> {
    fs::create_dir_all(&args.to)?;
    let shells: &[Shell] = args.shell.as_ref().map_or_else(Shell::value_variants, std::slice::from_ref);
    for shell in shells {
        clap_complete::generate_to(*shell, &mut args::Args::command(), "countersign", &args.to)?;
    }
    Ok(())
}

/// The page `docs/modules.md`.
pub(crate) fn modules() -> String {
    let mut page = String::from(
        "# Modules\n\nMade by `countersign generate modules docs/modules.md`; `countersign modules show NAME` says \
         the same.\n\n| module | checks | client name | example |\n|---|---|---|---|\n",
    );
    for module in Registry::builtin().modules() {
        let name = if module.uses_username() { "used" } else { "not looked at" };
        page.push_str(&format!(
            "| `{}` | {} | {name} | `auth={}` |\n",
            module.name(),
            module.summary().replace('|', "\\|"),
            module.example().replace('|', "\\|"),
        ));
    }
    for module in Registry::builtin().modules() {
        page.push_str(&format!("\n## {}\n\n{}\n", module.name(), module.manual()));
        if !module.aliases().is_empty() {
            page.push_str(&format!("\nAlso read as: {}.\n", module.aliases().join(", ")));
        }
        if !module.options().is_empty() {
            page.push_str("\n| option | value | default | |\n|---|---|---|---|\n");
        }
        for option in module.options() {
            let cell = |text: &str| text.replace('|', "\\|");
            page.push_str(&format!(
                "| `{}` | `{}` | {} | {} |\n",
                option.name,
                cell(option.value),
                cell(option.default),
                cell(option.help)
            ));
        }
    }
    page
}
