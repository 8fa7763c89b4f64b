//! Getting a spec for a command: from a source that is named, from what the agent keeps, or from the configured source.

use super::{Failure, SpecArgs};
use crate::config::Config;
use crate::memory::Memory;
use crate::run::ConfigPlace;
use crate::source::SourceUrl;
use evenkeel_spec::Bundle;
use std::path::Path;

/// The files of a spec, and where they are from.
pub(super) struct Loaded {
    /// The files.
    pub(super) bundle: Bundle,
    /// Their commit.
    pub(super) commit: String,
}

/// Which spec is meant where none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Default {
    /// What the agent keeps, and the configured source where it keeps nothing yet.
    LastGood,
    /// What the configured source has now.
    Source,
}

/// The configuration.
pub(super) fn config(place: &ConfigPlace) -> Result<Config, Failure> {
    place.read().map_err(|error| Failure::Config(evenkeel_core::chain(&error)))
}

/// The spec that is meant.
pub(super) fn load(config: &Config, named: Option<&str>, default: Default) -> Result<Loaded, Failure> {
    let source = if let Some(text) = named {
        source(text)?
    } else {
        let kept =
            (default == Default::LastGood).then(|| Memory::at(&config.state_dir).last_good()).flatten();
        if let Some(good) = kept {
            return Ok(Loaded { bundle: good.bundle, commit: good.commit });
        }
        let none =
            "no spec is named, none is kept here, and the configuration has no source: say --spec SOURCE";
        config.source.clone().ok_or_else(|| Failure::Usage(none.to_owned()))?
    };
    fetch(&source, config)
}

/// A source as it was typed; folders are meant from here.
fn source(text: &str) -> Result<SourceUrl, Failure> {
    let source = text.parse::<SourceUrl>().map_err(Failure::Usage)?;
    match source {
        SourceUrl::Folder(path) => {
            let path = std::path::absolute(&path).map_err(|error| Failure::wrong(&error))?;
            Ok(SourceUrl::Folder(path))
        }
        git @ SourceUrl::Git(_) => Ok(git),
    }
}

fn fetch(source: &SourceUrl, config: &Config) -> Result<Loaded, Failure> {
    let fetched = match source {
        SourceUrl::Folder(_) => source.fetch(config, None),
        SourceUrl::Git(_) => {
            // A repository of its own: the agent's is the agent's, and it may be fetching.
            let scratch =
                tempfile::TempDir::with_prefix("evenkeel-").map_err(|error| Failure::wrong(&error))?;
            source.fetch(&Config { state_dir: scratch.path().to_owned(), ..config.clone() }, None)
        }
    };
    let fetched = fetched.map_err(|error| Failure::wrong(&error))?;
    let fetched = fetched.ok_or_else(|| Failure::Wrong("the source gave nothing".to_owned()))?;
    Ok(Loaded { bundle: fetched.bundle, commit: fetched.commit })
}

/// The files in a folder, whatever it is called.
pub(super) fn load_folder(path: &Path) -> Result<Bundle, Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::wrong(&error))?;
    let fetched = crate::source::read_folder(&path).map_err(|error| Failure::wrong(&error))?;
    Ok(fetched.bundle)
}

/// The spec of the node that is meant.
pub(super) fn spec(
    config: &Config,
    args: &SpecArgs,
    default: Default,
) -> Result<(evenkeel_core::Spec, String), Failure> {
    let loaded = load(config, args.spec.as_deref(), default)?;
    let node = args.node.as_deref().unwrap_or(&config.node);
    let spec = crate::pull::read(&loaded.bundle, node);
    spec.map(|spec| (spec, loaded.commit)).map_err(|refusal| Failure::Wrong(refusal.join("\n")))
}
