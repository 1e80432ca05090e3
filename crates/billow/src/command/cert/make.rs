//! Keys and certificates made here, and requests to authorities. No file that is there is ever overwritten.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use billow_model::{Domain, Timestamp};
use billow_server::keys;
use billow_server::records::domain_from_person;
use billow_signing::{Authority, KeyKind, PrivateKey, Validity, request_pem, self_signed};
use clap::{Args, ValueEnum};

use super::now;

const DAY_MS: i64 = 86_400_000;

/// Of what kind a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyType {
    /// RSA of 2048 bits, for TLS and for signing
    Rsa,
    /// RSA of 4096 bits, for TLS and for signing; slower
    Rsa4096,
    /// Elliptic curve P-256, for TLS only
    Ec,
}

/// How a pair is made.
#[derive(Debug, Args)]
pub(super) struct Making {
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The key's kind
    #[arg(long = "type", value_name = "KIND", default_value = "rsa")]
    kind: KeyType,
    /// Further names besides DOMAIN and wave.DOMAIN
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Encrypt the key; the file's first line is the pass phrase (key_passphrase_file in the configuration)
    #[arg(long, value_name = "FILE", env = "BILLOW_KEY_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Make a key and a certificate that it signs itself: DOMAIN.key and DOMAIN.crt.
///
/// For trying things out: other servers believe it only where their operators have said so by name.
#[derive(Debug, Args)]
pub(super) struct SelfSigned {
    /// The domain
    domain: String,
    /// For how long it is good
    #[arg(long, default_value_t = 365)]
    days: u32,
    #[command(flatten)]
    making: Making,
}

/// Make a certificate authority of your own (ca.crt, ca.key), and pairs that it issues.
///
/// With domains: a pair for each (DOMAIN.crt, DOMAIN.key), issued by the authority in the folder, which is made if there is none.
/// Servers that name ca.crt among their trust_roots believe all of them. Keep ca.key away from servers.
#[derive(Debug, Args)]
pub(super) struct Ca {
    /// The domains
    domains: Vec<String>,
    /// The name of a new authority
    #[arg(long, value_name = "NAME", default_value = "Wave authority")]
    authority: String,
    /// For how long pairs are good; a new authority is for ten years
    #[arg(long, default_value_t = 365)]
    days: u32,
    #[command(flatten)]
    making: Making,
}

/// Make a key and a request for an authority: DOMAIN.key and DOMAIN.csr.
///
/// Send DOMAIN.csr to the authority; what comes back, put in place with `billow cert install`.
#[derive(Debug, Args)]
pub(super) struct Csr {
    /// The domain
    domain: String,
    /// A key that is there already, instead of a new one
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    making: Making,
}

/// The files of a pair that was made.
pub(in crate::command) struct MadePair {
    /// `DOMAIN.crt`
    pub(in crate::command) certificate: PathBuf,
    /// `DOMAIN.key`
    pub(in crate::command) key: PathBuf,
}

impl Making {
    fn passphrase(&self) -> anyhow::Result<Option<Vec<u8>>> {
        self.passphrase_file.as_deref().map(keys::passphrase).transpose()
    }

    fn others(&self, domain: &Domain) -> anyhow::Result<Vec<Domain>> {
        let named = self.name.iter().map(|name| read_domain(name));
        wave_of(domain).into_iter().map(Ok).chain(named).collect()
    }

    fn place(&self, domain: &Domain, ending: &str) -> PathBuf {
        self.dir.join(format!("{domain}.{ending}"))
    }

    fn new_key(&self) -> anyhow::Result<PrivateKey> {
        Ok(PrivateKey::generate(self.kind.kind())?)
    }
}

impl KeyType {
    fn kind(self) -> KeyKind {
        match self {
            Self::Rsa => KeyKind::BOTH,
            Self::Rsa4096 => KeyKind::Rsa(4096),
            Self::Ec => KeyKind::Ec,
        }
    }
}

impl SelfSigned {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let domain = read_domain(&self.domain)?;
        let made = &self.making;
        let key = made.new_key()?;
        let certificate = self_signed(&key, &domain, &made.others(&domain)?, days(self.days))?;
        let key = key.to_pem_with(made.passphrase()?.as_deref())?;
        write_all(&[
            (made.place(&domain, "key"), key),
            (made.place(&domain, "crt"), certificate),
        ])?;
        println!("Other servers believe it only where their operators have said so by name.");
        Ok(ExitCode::SUCCESS)
    }
}

impl Csr {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let domain = read_domain(&self.domain)?;
        let made = &self.making;
        let passphrase = made.passphrase()?;
        let mut files = Vec::new();
        let key = match &self.key {
            Some(path) => PrivateKey::from_pem(&keys::read(path)?, passphrase.as_deref())
                .with_context(|| path.display().to_string())?,
            None => {
                let key = made.new_key()?;
                files.push((made.place(&domain, "key"), key.to_pem_with(passphrase.as_deref())?));
                key
            }
        };
        let request = request_pem(&key, &domain, &made.others(&domain)?)?;
        files.push((made.place(&domain, "csr"), request));
        write_all(&files)?;
        println!(
            "Send {domain}.csr to the authority; then: billow cert install CERTIFICATE INTERMEDIATES --key {}",
            self.key.unwrap_or_else(|| made.place(&domain, "key")).display()
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Ca {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let made = &self.making;
        let passphrase = made.passphrase()?;
        let authority = with_authority(&made.dir, &self.authority, passphrase.as_deref())?;
        for text in &self.domains {
            let domain = read_domain(text)?;
            let key = made.new_key()?;
            let issued = authority.issue_for(&key, &domain, &made.others(&domain)?, days(self.days))?;
            write_all(&[
                (made.place(&domain, "key"), key.to_pem_with(passphrase.as_deref())?),
                (made.place(&domain, "crt"), issued.chain_pem),
            ])?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The authority of a folder, made if there is none.
pub(in crate::command) fn with_authority(
    dir: &Path,
    name: &str,
    passphrase: Option<&[u8]>,
) -> anyhow::Result<Authority> {
    let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    if certificate.exists() || key.exists() {
        let authority = Authority::from_pem(&keys::read(&key)?, &keys::read(&certificate)?, passphrase);
        return authority.with_context(|| format!("{} with {}", certificate.display(), key.display()));
    }
    let authority = Authority::new(name, days(3650))?;
    write_all(&[
        (key, authority.key().to_pem_with(passphrase)?),
        (certificate, authority.certificate_pem()?),
    ])?;
    Ok(authority)
}

impl MadePair {
    /// A pair in a folder, RSA for both roles: by that authority, or by its own key.
    pub(in crate::command) fn make(dir: &Path, domain: &Domain, authority: Option<&Authority>) -> anyhow::Result<Self> {
        let key = PrivateKey::generate(KeyKind::BOTH)?;
        let others: Vec<Domain> = wave_of(domain).into_iter().collect();
        let certificate = match authority {
            Some(authority) => authority.issue_for(&key, domain, &others, days(365))?.chain_pem,
            None => self_signed(&key, domain, &others, days(365))?,
        };
        let pair = Self {
            certificate: dir.join(format!("{domain}.crt")),
            key: dir.join(format!("{domain}.key")),
        };
        write_all(&[
            (pair.key.clone(), key.to_pem()?),
            (pair.certificate.clone(), certificate),
        ])?;
        Ok(pair)
    }
}

fn read_domain(text: &str) -> anyhow::Result<Domain> {
    domain_from_person(text).map_err(anyhow::Error::msg)
}

/// The name at which some servers look for the wave service.
fn wave_of(domain: &Domain) -> Option<Domain> {
    format!("wave.{domain}").parse().ok()
}

/// From an hour ago on, for clocks that are a little behind.
fn days(days: u32) -> Validity {
    let now = now();
    Validity {
        from: Timestamp(now.0 - DAY_MS / 24),
        until: Timestamp(now.0 + i64::from(days) * DAY_MS),
    }
}

/// Writes new files, all or none.
fn write_all(files: &[(PathBuf, Vec<u8>)]) -> anyhow::Result<()> {
    for (path, _) in files {
        ensure!(
            !path.exists(),
            "{} is there already, and nothing is overwritten: move it away, or choose another --dir",
            path.display()
        );
    }
    for (path, bytes) in files {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        keys::write_new(path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
