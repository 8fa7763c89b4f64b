//! Accounts and the audit log from the command line of the hub's own machine: whoever may write its store may do it.

use clap::{Args, Subcommand, ValueEnum};
use evenkeel_hub::accounts::{Actor, described, is_name, new_pass, password};
use evenkeel_hub::admin;
use evenkeel_hub::store::accounts::{Account, Accounts, Change, Entry, PassKind, Role};
use evenkeel_report::Timestamp;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

type Done = Result<(), Box<dyn Error>>;

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads
    Viewer,
    /// And decides what is told to people
    Operator,
    /// And everything else
    Admin,
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            Self::Viewer => Role::Viewer,
            Self::Operator => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from the first line of this file, or of standard input for `-` [default: ask at the terminal]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make an account. From the first one on, reading the hub needs signing in
    Add {
        /// Its name
        name: String,
        /// What it may do
        #[arg(long)]
        role: RoleName,
        /// A tier that it may act on; may be given several times [default: every tier]
        #[arg(long = "tier", value_name = "TIER")]
        tiers: Vec<String>,
        #[command(flatten)]
        from: PasswordFrom,
    },
    /// Tell which there are
    List,
    /// Give an account another password; its sessions and tokens end
    Password {
        /// Its name
        name: String,
        #[command(flatten)]
        from: PasswordFrom,
    },
    /// Remove an account; its sessions and tokens end
    Remove {
        /// Its name
        name: String,
    },
    /// Make a token of the API for an account; it is printed this once
    Token {
        /// Whose
        name: String,
        /// How long it holds
        #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = admin::duration)]
        expires: Duration,
    },
    /// Take a token of the API back
    Revoke {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How many lines, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

/// Whoever runs this command.
pub(crate) fn actor(now: i64) -> Actor {
    let of = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    let who = of("SUDO_USER").or_else(|| of("USER"));
    let who = who.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    Actor { who, origin: "command line".to_owned(), at: now }
}

fn entry(what: &str, about: &str, now: i64) -> Entry {
    actor(now).entry(what, about)
}

/// Does what was asked of accounts at `now` (unix ms).
pub(crate) fn user(store: &dyn Accounts, command: UserCommand, now: i64) -> Done {
    match command {
        UserCommand::Add { name, role, tiers, from } => {
            if !is_name(&name) {
                return Err(format!("{name:?} is no name: up to 64 letters, digits and .-_@").into());
            }
            if store.account(&name)?.is_some() {
                return Err(format!("there is an account {name} already").into());
            }
            let hash = password::hash(&asked(&from, true)?)?;
            let account = Account { name: name.clone(), role: role.role(), tiers, hash, made: now };
            let new = Some(described(&account));
            let line = Entry { new, ..entry("account_add", &name, now) };
            done(store.change(&Change::Add(account), &line)?, || {
                format!("there is an account {name} already")
            })
        }
        UserCommand::List => list(store),
        UserCommand::Password { name, from } => {
            known(store, &name)?;
            if !is_name(&name) {
                return Err(format!("{name} signs in at the provider and has no password here").into());
            }
            let hash = password::hash(&asked(&from, true)?)?;
            let line = entry("account_password", &name, now);
            done(store.change(&Change::Password { name: name.clone(), hash }, &line)?, || nobody(&name))
        }
        UserCommand::Remove { name } => {
            let old = Some(described(&known(store, &name)?));
            let line = Entry { old, ..entry("account_remove", &name, now) };
            done(store.change(&Change::Remove(name.clone()), &line)?, || nobody(&name))
        }
        UserCommand::Token { name, expires } => {
            let account = known(store, &name)?;
            let holds = i64::try_from(expires.as_millis())?;
            let (secret, pass) = new_pass(&account, PassKind::Token, now, holds)?;
            let (id, until) = (pass.id.clone(), time(pass.until));
            let line = Entry {
                new: Some(format!("token {id} until {until}")),
                ..entry("api_token_add", &name, now)
            };
            done(store.change(&Change::AddPass(pass), &line)?, || nobody(&name))?;
            eprintln!("token {id}, until {until}; it is not shown again");
            say(&format!("{secret}\n"))
        }
        UserCommand::Revoke { id } => {
            let line = entry("api_token_revoke", &id, now);
            let none = || format!("there is no token {id}: `evenkeel-hub user list` has them");
            done(store.change(&Change::DropToken(id.clone()), &line)?, none)
        }
    }
}

fn done(changed: bool, otherwise: impl FnOnce() -> String) -> Done {
    if changed { Ok(()) } else { Err(otherwise().into()) }
}

fn nobody(name: &str) -> String {
    format!("there is no account {name}: `evenkeel-hub user list` has them")
}

fn known(store: &dyn Accounts, name: &str) -> Result<Account, Box<dyn Error>> {
    store.account(name)?.ok_or_else(|| nobody(name).into())
}

fn list(store: &dyn Accounts) -> Done {
    let passes = store.passes()?;
    let mut text = String::new();
    for account in store.accounts()? {
        let _ = writeln!(text, "{}  {}  since {}", account.name, described(&account), time(account.made));
        for pass in passes.iter().filter(|pass| pass.account == account.name && pass.kind == PassKind::Token)
        {
            let _ = writeln!(
                text,
                "  token {}  until {}  last used {}",
                pass.id,
                time(pass.until),
                time(pass.seen)
            );
        }
    }
    say(&text)
}

/// Tell who did what, the newest first.
pub(crate) fn audit(store: &dyn Accounts, args: &AuditArgs) -> Done {
    let mut text = String::new();
    for line in store.log(None, args.lines)? {
        let Entry { at, who, origin, what, about, old, new, .. } = line;
        let _ = write!(text, "{}  {who} from {origin}  {what}  {about}", time(at));
        let _ = old.map(|old| write!(text, "  was {old}"));
        let _ = new.map(|new| write!(text, "  is {new}"));
        text.push('\n');
    }
    say(&text)
}

fn say(text: &str) -> Done {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn time(ms: i64) -> String {
    Timestamp::from_unix_ms(ms).map_or_else(|| ms.to_string(), |at| at.to_string())
}

/// A password: from a file, from standard input, or from the terminal, where it is not shown and asked for twice.
fn asked(from: &PasswordFrom, twice: bool) -> Result<String, Box<dyn Error>> {
    match from.password_file.as_deref() {
        Some(path) if path == Path::new("-") => line(std::io::stdin().lock()),
        Some(path) => {
            let file =
                std::fs::File::open(path).map_err(|why| format!("reading {}: {why}", path.display()))?;
            line(std::io::BufReader::new(file))
        }
        None if std::io::stdin().is_terminal() => {
            let one = hidden("Password: ")?;
            if twice && hidden("The same again: ")? != one {
                return Err("the two are not the same".into());
            }
            Ok(one)
        }
        None => Err(
            "there is no terminal to ask for a password: give --password-file FILE, or - for standard input"
                .into(),
        ),
    }
}

fn line(from: impl std::io::BufRead) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    from.take(2 * password::LONGEST as u64).read_line(&mut text)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A line from the terminal that is not echoed.
fn hidden(prompt: &str) -> Result<String, Box<dyn Error>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    eprint!("{prompt}");
    let before = tcgetattr(&stdin)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &quiet)?;
    let read = line(stdin.lock());
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    eprintln!();
    restored?;
    read
}
