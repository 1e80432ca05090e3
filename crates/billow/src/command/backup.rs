//! `billow backup`, `billow restore`, `billow scrub`, `billow salvage`, `billow adopt`: the stored data, looked after by hand.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use billow_model::WaveletName;
use billow_server::config::Config;
use billow_server::upkeep::{self, Salvaged};
use clap::Args;
use serde_json::{Value, json};

/// Copy a server's data into a folder, also while the server runs.
///
/// The copy is one file, billow.db, as the data was at one moment, and it has been checked. Keys and certificates are not in
/// it. Take it off this machine: a backup beside the original dies with it.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The folder; it must not hold a backup yet.
    #[arg(value_name = "DIR")]
    into: PathBuf,
    #[command(flatten)]
    data: Data,
}

/// Put a backup in the place of a server's data, which must have been moved away.
///
/// The server that is started on it knows that it was restored: what other servers have seen since the backup is not known
/// to it, and it asks them.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The folder, or the file, that was made by `billow backup`.
    #[arg(value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    data: Data,
}

/// Read all of a stopped server's data and check it.
///
/// A running server does the same by itself, slowly, once a day. Exit code 1: something is not as it was written.
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    #[command(flatten)]
    data: Data,
}

/// Copy out of damaged data what verifies: one file a wavelet, its deltas up to the first that is not as it was written.
#[derive(Debug, Args)]
pub(crate) struct Salvage {
    /// The folder for the files; it must be empty or not there.
    #[arg(value_name = "DIR")]
    into: PathBuf,
    #[command(flatten)]
    data: Data,
}

/// Decide about a wavelet of a stopped server's own that others know more of, so that it can be changed again.
///
/// FILE is the wavelet as another server that takes part has it: made there by `billow salvage`. It must continue the history
/// that is here, and every signature in it is checked; then it takes the place of what is here. With --keep-own instead, what is
/// here counts, and the servers that have more will say that this one contradicts itself.
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The history of another server.
    #[arg(value_name = "FILE", required_unless_present = "keep_own")]
    file: Option<PathBuf>,
    /// Let the history that is here count.
    #[arg(long, value_name = "WAVELET", conflicts_with = "file")]
    keep_own: Option<WaveletName>,
    #[command(flatten)]
    data: Data,
}

#[derive(Debug, Args)]
struct Data {
    /// The server's configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Data {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(self.config()?.data_dir)
    }

    fn config(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        })
    }
}

impl Backup {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let copied = upkeep::back_up(&self.data.folder()?, &self.into)?;
        println!(
            "{}: {} wavelets, {} deltas, {} bytes, checked",
            self.into.join("billow.db").display(),
            copied.wavelets,
            copied.deltas,
            copied.bytes
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Restore {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let data = self.data.folder()?;
        let copied = upkeep::restore(&self.from, &data)?;
        println!(
            "{}: {} wavelets, {} deltas restored. What was written after the backup is not in it.",
            data.display(),
            copied.wavelets,
            copied.deltas
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Scrub {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let scrubbed = upkeep::scrub_once(&self.data.folder()?).await?;
        for finding in &scrubbed.findings {
            eprintln!("{finding}");
        }
        println!(
            "{} wavelets, {} deltas read, {} findings",
            scrubbed.wavelets,
            scrubbed.deltas,
            scrubbed.findings.len()
        );
        Ok(if scrubbed.findings.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Salvage {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let data = self.data.folder()?;
        anyhow::ensure!(
            fs::read_dir(&self.into).map_or(true, |mut files| files.next().is_none()),
            "{} is not empty; name another folder",
            self.into.display()
        );
        fs::create_dir_all(&self.into)?;
        let (mut number, mut damaged, mut failed) = (0, 0, None);
        let lost = upkeep::salvage(&data, |salvaged| {
            number += 1;
            let path = self.into.join(format!("{number:06}.jsonl"));
            match &salvaged.fault {
                Some(fault) => {
                    damaged += 1;
                    let kept = salvaged.deltas.len();
                    eprintln!("{}: {kept} deltas verify, then: {fault}", salvaged.name);
                }
                None => println!("{}: whole, {} deltas", salvaged.name, salvaged.deltas.len()),
            }
            if let Err(error) = write(&path, &salvaged).with_context(|| path.display().to_string()) {
                failed.get_or_insert(error);
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for lost in &lost {
            eprintln!("{lost}");
        }
        println!(
            "{number} wavelets, {damaged} of them damaged, in {}",
            self.into.display()
        );
        Ok(if damaged == 0 && lost.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Adopt {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.data.config()?;
        if let Some(name) = &self.keep_own {
            anyhow::ensure!(upkeep::keep_own(&config, name).await?, "{name} may be changed already");
            println!("{name}: the history that is here counts");
            return Ok(ExitCode::SUCCESS);
        }
        let Some(file) = &self.file else {
            anyhow::bail!("expected a file")
        };
        let (name, applied) = read(file).with_context(|| file.display().to_string())?;
        let adopted = upkeep::adopt(&config, &name, applied).await?;
        println!("{name}: from version {} to {}", adopted.before, adopted.after);
        Ok(ExitCode::SUCCESS)
    }
}

/// A file of [`write`]: the wavelet, and the bytes of its sealed deltas.
fn read(path: &Path) -> anyhow::Result<(WaveletName, Vec<bytes::Bytes>)> {
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines();
    let head: Value = serde_json::from_str(lines.next().unwrap_or_default())?;
    let name = head["wavelet"]
        .as_str()
        .context("expected a line that names the wavelet")?
        .parse()?;
    let mut applied = Vec::new();
    for line in lines {
        let delta: Value = serde_json::from_str(line)?;
        // What is not sealed is of nobody's history yet.
        let Some(bytes) = delta["applied"].as_str() else { break };
        applied.push(hex::decode(bytes)?.into());
    }
    Ok((name, applied))
}

/// A line for the wavelet, then a line for each delta; bytes in hexadecimal.
fn write(path: &Path, salvaged: &Salvaged) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create_new(path)?);
    let sealed = salvaged.deltas.iter().rev().find_map(|delta| delta.seal.as_ref());
    let head = json!({
        "wavelet": salvaged.name.to_string(),
        "version": salvaged.deltas.last().map_or(0, |last| last.resulting.number()),
        "sealed": sealed.map_or(0, |seal| seal.resulting.version.number()),
        "hash": sealed.map_or(Value::Null, |seal| hex::encode(seal.resulting.hash.as_bytes()).into()),
        "fault": salvaged.fault,
    });
    writeln!(out, "{head}")?;
    for delta in &salvaged.deltas {
        let line = json!({
            "version": delta.applied_at.number(),
            "author": delta.author.to_string(),
            "timestamp": delta.timestamp.0,
            "operations": hex::encode(&delta.ops),
            "applied": delta.seal.as_ref().map(|seal| hex::encode(&seal.applied)),
        });
        writeln!(out, "{line}")?;
    }
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(())
}
