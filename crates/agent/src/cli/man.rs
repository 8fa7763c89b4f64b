//! The manual page: one for the whole program, with a part for every command.

use clap::{Arg, Command};
use clap_mangen::Man;
use std::io;

/// What ends the page: what no parser of a command line knows.
const REST: &str = r#".SH "EXIT STATUS"
.TP
0
Good: even, nothing to change, all put right.
.TP
1
An error; of \fBstatus\fR, no agent that answers.
.TP
2
Something is off: not even, something would change, something is pending or is left as it is.
.TP
64
The command was typed wrongly.
.TP
69
The hub that was asked does not answer, or cannot just now.
.TP
78
The configuration is bad.
.SH ENVIRONMENT
.TP
\fBEVENKEEL_CONFIG\fR
The configuration\(aqs file.
.TP
\fBEVENKEEL_NODE\fR, \fBEVENKEEL_SOURCE\fR, \fBEVENKEEL_HUB\fR, …
Every key of the configuration has a variable that is believed before the file.
.TP
\fBNO_COLOR\fR
Set to anything: no colours.
.SH FILES
.TP
/etc/evenkeel/agent.yaml
The configuration.
.TP
/var/lib/evenkeel
The last good spec, reports that wait, and what is off since when.
.TP
/run/evenkeel
The agent\(aqs socket, and reloads that are owed.
.TP
/etc/sysctl.d/99\-evenkeel.conf, conf.d/99\-evenkeel.conf of a PostgreSQL cluster, /etc/systemd/system/*.mount
Files that evenkeel owns and replaces whole; each says so in its first line.
"#;

/// The page, in roff.
///
/// # Errors
/// Never in memory; the writer's own kind.
pub(super) fn page(mut program: Command) -> io::Result<Vec<u8>> {
    program.build();
    let mut page = vec![];
    let whole = Man::new(program.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    page.extend(b".SH COMMANDS\n");
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        page.extend(part(command)?);
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            page.extend(part(below)?);
        }
    }
    page.extend(REST.as_bytes());
    Ok(ascii(&String::from_utf8_lossy(&page)).into_bytes())
}

/// Old troffs read bytes, so what is not ASCII goes by its number.
fn ascii(text: &str) -> String {
    let one = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    text.chars().map(one).collect()
}

/// One command: its line, what it does, and its own options.
fn part(command: &Command) -> io::Result<Vec<u8>> {
    let own = command.clone().mut_args(|arg| {
        let hidden = everywhere(&arg);
        arg.hide(hidden)
    });
    let man = Man::new(own);
    let mut text = vec![];
    man.render_synopsis_section(&mut text)?;
    text.extend(b".PP\n");
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|arg| !everywhere(arg)) {
        man.render_options_section(&mut text)?;
    }
    // What would be sections of a page of its own is one part of this one.
    let text = String::from_utf8_lossy(&text);
    let section = |line: &&str| [".SH", ".ie", ".el"].iter().any(|head| line.starts_with(head));
    let body: Vec<&str> = text.lines().filter(|line| !section(line)).collect();
    // `evenkeel fleet nodes` is listed as `fleet nodes`.
    let whole = command.get_bin_name().unwrap_or_default();
    let name = whole.split_once(' ').map_or(command.get_name(), |(_, name)| name);
    Ok(format!(".SS {name}\n{}\n", body.join("\n")).into_bytes())
}

/// What every command takes and the page says once.
fn everywhere(arg: &Arg) -> bool {
    ["config", "help", "version"].contains(&arg.get_id().as_str())
}
