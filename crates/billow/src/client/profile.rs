//! Profiles: where I am signed in, and with which token. One JSON file a profile, readable by its owner only.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// One sign-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The server: `http://localhost:9898`.
    pub url: String,
    /// Who I am there.
    pub address: String,
    /// The session's token; as good as a password until it is signed out.
    pub token: String,
}

impl Profile {
    /// Reads a profile that [`Profile::save`] wrote.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        let path = path(name)?;
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("not signed in as profile {name:?}: run `billow login URL ADDRESS --profile {name}` first")
            }
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: sign in again with `billow login`", path.display()))
    }

    /// Writes the profile, replacing one of the same name.
    pub fn save(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = path(name)?;
        let folder = path.parent().expect("a profile lies in a folder");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Written aside and renamed, so that two commands at once leave a whole file.
        let aside = path.with_extension(format!("new{}", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        fs::rename(&aside, &path)?;
        Ok(path)
    }
}

fn path(name: &str) -> anyhow::Result<PathBuf> {
    if name.is_empty()
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
        || name.starts_with('.')
    {
        bail!("expected a profile name of letters, digits, '-', '_', '.' and '@', got {name:?}");
    }
    let base = match (std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")) {
        (Some(base), _) if !base.is_empty() => PathBuf::from(base),
        (_, Some(home)) => PathBuf::from(home).join(".config"),
        _ => bail!("neither XDG_CONFIG_HOME nor HOME says where profiles are kept"),
    };
    Ok(base.join("billow").join("profiles").join(format!("{name}.json")))
}
