//! What lies on this machine: the data folder, the disk, the files of keys, and who runs on them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::report::{Finding, Report, Severity, Topic};
use crate::config::{Config, ConfigError};
use crate::control;

/// Free room below which a warning is due, unless somebody says otherwise.
pub const ENOUGH_ROOM: u64 = 2 << 30;

/// Who has the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tenant {
    /// Nobody: no server runs.
    Nobody,
    /// The server of this configuration.
    Us,
    /// Somebody else, who must not.
    Other,
}

/// What is wrong with the text of the configuration.
pub(super) fn configuration(report: &mut Report, error: &ConfigError) {
    for problem in &error.problems {
        let (code, why) = if problem.contains("unknown key") {
            (
                "config-unknown-key",
                "a key that is not known has no effect, so the server does not start with it",
            )
        } else if problem.contains("this is not TOML") {
            ("config-syntax", "the server cannot start with it")
        } else if problem.contains("cannot be read") {
            ("config-unreadable", "without it the server cannot start")
        } else {
            ("config-value", "the server does not start with it")
        };
        let change = problem.split(": ").next().unwrap_or_default();
        report.add(
            Finding::new(Severity::Error, Topic::Configuration, code, problem)
                .why(why)
                .change(change),
        );
    }
}

/// Looks at the folder and the disk that it is on.
pub(super) fn data_folder(report: &mut Report, config: &Config, enough: u64) {
    let (place, path) = (config.places.of("data_dir"), &config.data_dir);
    let line = format!("{place} = {:?}", path.display().to_string());
    let existing = path.ancestors().find(|folder| folder.exists());
    let existing = existing.filter(|folder| !folder.as_os_str().is_empty());
    let existing = existing.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        let what = format!(
            "{}: expected a folder, {} is a file",
            path.display(),
            existing.display()
        );
        let why = "everything is kept there; the server does not start without it";
        let finding = Finding::new(Severity::Error, Topic::Files, "data-folder-unwritable", what);
        return report.add(finding.why(why).change(line));
    }
    match write_and_sync(existing) {
        Ok(()) => {
            let what = format!(
                "{} can be written, and what is written reaches the disk",
                existing.display()
            );
            report.add(Finding::new(Severity::Good, Topic::Files, "data-folder", what));
        }
        Err(error) => {
            let what = format!("nothing can be written into {}: {error}", existing.display());
            let why = "everything is kept there; the server does not start without it";
            let change = format!(
                "chown billow: {} && chmod 700 it, or another folder at {line}",
                existing.display()
            );
            let finding = Finding::new(Severity::Error, Topic::Files, "data-folder-unwritable", what);
            report.add(finding.why(why).change(change));
        }
    }
    disk(report, existing, enough);
}

fn disk(report: &mut Report, folder: &Path, enough: u64) {
    // A file system that says nothing has no bounds.
    let Some(room) = billow_store::room(folder).filter(|room| room.total > 0) else {
        return;
    };
    let free = format!(
        "{} of {} free on the disk of {}",
        size(room.free),
        size(room.total),
        folder.display()
    );
    let finding = if room.is_full() {
        Finding::new(Severity::Error, Topic::Files, "disk-full", free)
            .why("the server stores nothing any more, so that the rest of the machine goes on; people cannot write")
            .change("make room on that disk, or move data_dir to another")
    } else if room.free < enough {
        Finding::new(Severity::Warning, Topic::Files, "disk-nearly-full", free)
            .why(format!(
                "below {} this is told; the server stores nothing when the disk is nearly full",
                size(enough)
            ))
            .change("make room on that disk, or move data_dir to another")
    } else {
        Finding::new(Severity::Good, Topic::Files, "disk", free)
    };
    report.add(finding);
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes & 0x3FFF_FFFF) * 10) >> 30),
    }
}

/// A file, its bytes and its end.
fn write_and_sync(folder: &Path) -> std::io::Result<()> {
    let trial = folder.join(format!(".billow-doctor-{}", std::process::id()));
    let mut file = File::create_new(&trial)?;
    let written = file.write_all(b"billow doctor\n").and_then(|()| file.sync_all());
    let gone = fs::remove_file(&trial);
    written.and(gone)
}

/// Looks whether a server runs on the folder, and whose.
pub(super) async fn tenant(report: &mut Report, config: &Config, path: &Path) -> Tenant {
    let folder = config.data_dir.display();
    let about = match control::Client::find(&config.data_dir).await {
        Ok(Some(client)) => client.get("/about").await.ok(),
        _ => None,
    };
    if let Some(about) = about {
        let theirs = about["config"].as_str().map(PathBuf::from);
        let (pid, domain) = (about["pid"].to_string(), about["domain"].as_str().unwrap_or_default());
        let ours = fs::canonicalize(path).ok();
        if theirs.is_none() || theirs == ours {
            let what = format!("the server of {domain} runs (process {pid})");
            report.add(Finding::new(Severity::Good, Topic::Files, "server-runs", what));
            return Tenant::Us;
        }
        let theirs = theirs.unwrap_or_default();
        return shared(
            report,
            config,
            &format!("process {pid}, which serves {domain} by {}", theirs.display()),
        );
    }
    match locked_by(&config.data_dir) {
        Some(pid) => shared(report, config, &format!("process {pid}, which answers nothing in it")),
        None => {
            let what = format!("no server runs on {folder}; what peers see is tried without it");
            report.add(Finding::new(Severity::Note, Topic::Files, "server-stopped", what));
            Tenant::Nobody
        }
    }
}

fn shared(report: &mut Report, config: &Config, by: &str) -> Tenant {
    let folder = config.data_dir.display();
    report.add(
        Finding::new(
            Severity::Error,
            Topic::Files,
            "data-folder-shared",
            format!("{folder} is in use by {by}"),
        )
        .why("two servers on one data folder would destroy it, so the second does not start")
        .change(format!("{} = a folder of its own", config.places.of("data_dir"))),
    );
    Tenant::Other
}

/// The process that has locked a data folder, as far as it says.
fn locked_by(folder: &Path) -> Option<String> {
    let path = folder.join("billow.lock");
    let lock = File::open(&path).ok()?;
    match lock.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let pid = text.lines().next().map(str::trim).filter(|pid| !pid.is_empty());
            Some(pid.unwrap_or("unknown").to_owned())
        }
        _ => None,
    }
}

/// Looks whether others can read the keys.
pub(super) fn secrets(report: &mut Report, config: &Config) {
    let Some(federation) = &config.federation else { return };
    let mut paths = vec![&federation.key];
    if federation.signer_key != federation.key {
        paths.push(&federation.signer_key);
    }
    for path in paths {
        secret(report, path);
    }
}

fn secret(report: &mut Report, path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(data) = fs::metadata(path) else { return };
    let (mode, path) = (data.permissions().mode() & 0o777, path.display());
    let finding = if mode & 0o077 == 0 {
        Finding::new(
            Severity::Good,
            Topic::Files,
            "key-private",
            format!("{path} is its owner's alone"),
        )
    } else {
        Finding::new(
            Severity::Warning,
            Topic::Files,
            "key-readable",
            format!("{path}: other users of this machine can read this key (mode {mode:o})"),
        )
        .why("whoever has the key can be your domain for every other server")
        .change(format!("chmod 600 {path}"))
    };
    report.add(finding);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn sizes_are_in_words() {
        assert_eq!((size(0), size(5 << 20)), ("0 MiB".to_owned(), "5 MiB".to_owned()));
        assert_eq!(size((3 << 30) + (1 << 29)), "3.5 GiB");
    }

    #[test]
    fn looking_at_a_folder_leaves_nothing_in_it() {
        let dir = tempfile::tempdir().unwrap();
        write_and_sync(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(locked_by(dir.path()), None);
        let lock = File::create(dir.path().join("billow.lock")).unwrap();
        lock.lock().unwrap();
        fs::write(dir.path().join("billow.lock"), "4711      \n\n").unwrap();
        assert_eq!(locked_by(dir.path()).as_deref(), Some("4711"));
    }
}
