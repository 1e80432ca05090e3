//! `billow cert`: keys and certificates, made, asked for, looked at and put in place.

mod make;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use billow_model::{Domain, Timestamp};
use billow_server::config::{Config, FederationConfig};
use billow_server::keys::{self, PairFiles};
use billow_server::records::domain_from_person;
use billow_signing::{Pair, PrivateKey, Role, Shown, TrustRoots, days_left, show};
use clap::{Args, Subcommand, ValueEnum};

pub(super) use make::{MadePair, with_authority};

/// Make, ask for, check and install keys and certificates.
///
/// A pair of key and certificate has one of two roles, or both:
/// tls: it is shown to other servers when a connection is made. RSA or EC; any authority that servers trust.
/// signer: its key signs every change of your users, and other Wave servers keep its chain with them. RSA only.
/// One RSA pair for both is the usual way (certificate and key in [federation]); signer_certificate and signer_key keep them apart.
#[derive(Debug, Args)]
pub(crate) struct Cert {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    SelfSigned(make::SelfSigned),
    Ca(make::Ca),
    Csr(make::Csr),
    Install(Install),
    Check(Check),
    Show(Show),
}

/// Which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Shown in TLS handshakes
    Tls,
    /// Signs deltas
    Signer,
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            Self::Tls => Role::Tls,
            Self::Signer => Role::Signer,
        }
    }
}

/// Check everything, then put a certificate, its intermediates and its key where the configuration says.
///
/// The certificates may be in one file or several, in any order. What was there is kept as FILE.old. A running server takes the new
/// pair up within seconds. Nothing is changed if other servers would refuse the pair.
#[derive(Debug, Args)]
struct Install {
    /// PEM files with the certificate, the intermediates and, if you like, the key
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The key, if it is in none of the files [default: the one that is in place]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For which role [default: tls, which is both where there is one pair for both]
    #[arg(long)]
    role: Option<RoleName>,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "billow.toml")]
    config: PathBuf,
    /// A further authority that other servers trust
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
}

/// Look at a pair as other servers will; exit code 1 if they would refuse it.
///
/// Without --certificate: the pairs that the configuration names.
#[derive(Debug, Args)]
struct Check {
    /// The certificate with its intermediates
    #[arg(long, value_name = "FILE", requires_all = ["key", "domain"])]
    certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// The domain it is for
    #[arg(long, requires = "certificate")]
    domain: Option<String>,
    /// For which role [default: each that it has]
    #[arg(long)]
    role: Option<RoleName>,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "billow.toml")]
    config: PathBuf,
    /// A further authority that other servers trust
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// A file whose first line opens the key
    #[arg(long, value_name = "FILE", env = "BILLOW_KEY_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

/// For whom pairs are, which authorities count, and where the pairs lie.
type ToCheck = (Domain, TrustRoots, Vec<(Role, PairFiles)>);

/// Show what is in certificate files.
#[derive(Debug, Args)]
struct Show {
    /// PEM files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Cert {
    /// Runs the command that was given.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Action::SelfSigned(command) => command.run(),
            Action::Ca(command) => command.run(),
            Action::Csr(command) => command.run(),
            Action::Install(command) => command.run(),
            Action::Check(command) => command.run(),
            Action::Show(command) => command.run(),
        }
    }
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        for path in &self.files {
            let shown = show(&keys::read(path)?).with_context(|| path.display().to_string())?;
            for certificate in shown {
                println!("{}", path.display());
                print_certificate(&certificate);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (domain, roots, pairs) = self.pairs()?;
        let mut good = true;
        for (role, files) in pairs {
            println!(
                "{}: {} with {}",
                described(role),
                files.certificate.display(),
                files.key.display()
            );
            good &= match files.pair()? {
                Ok(pair) => report(&pair, &domain, role, &roots)?,
                Err(error) => {
                    for shown in show(&keys::read(&files.certificate)?).unwrap_or_default() {
                        print_certificate(&shown);
                    }
                    println!("  problem   {error}");
                    false
                }
            };
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn pairs(self) -> anyhow::Result<ToCheck> {
        let asked = self.role.map(RoleName::role);
        let has = |role: &Role| asked.is_none_or(|asked| asked == *role);
        if let (Some(certificate), Some(key), Some(domain)) = (self.certificate, self.key, &self.domain) {
            let files = PairFiles {
                certificate,
                key,
                passphrase: self.passphrase_file,
            };
            let domain = domain_from_person(domain).map_err(anyhow::Error::msg)?;
            let roles = [asked.unwrap_or(Role::Tls)];
            let roots = roots(&self.root)?;
            return Ok((domain, roots, roles.map(|role| (role, files.clone())).into()));
        }
        let (domain, federation) = configured(&self.config)?;
        let both = [
            (Role::Tls, federation.tls_files()),
            (Role::Signer, federation.signer_files()),
        ];
        let pairs = both.into_iter().filter(|(role, _)| has(role)).collect();
        let roots = roots(federation.trust_roots.iter().chain(&self.root))?;
        Ok((domain, roots, pairs))
    }
}

impl Install {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (domain, federation) = configured(&self.config)?;
        let role = self.role.map_or(Role::Tls, RoleName::role);
        let places = match role {
            Role::Tls => federation.tls_files(),
            Role::Signer if federation.one_pair() => bail!(
                "{} has one pair for both roles: install it without --role, or name signer_certificate and signer_key \
                 in [federation] to keep them apart",
                self.config.display()
            ),
            Role::Signer => federation.signer_files(),
        };
        let mut certificates = Vec::new();
        for file in &self.files {
            certificates.extend(keys::read(file)?);
            certificates.push(b'\n');
        }
        let key = self.key(&certificates, &places)?;
        if PrivateKey::is_encrypted(&key) {
            ensure!(
                places.passphrase.is_some(),
                "the key is encrypted, and the server could not open it: put its pass phrase into a file and name that \
                 as key_passphrase_file in [federation] of {}",
                self.config.display()
            );
        }
        let pair = Pair::from_pem(&key, places.passphrase()?.as_deref(), &certificates)?;
        let roots = roots(federation.trust_roots.iter().chain(&self.root))?;
        let mut roles = vec![role];
        if federation.one_pair() {
            roles.push(Role::Signer);
        }
        for role in roles {
            println!("{}:", described(role));
            if !report(&pair, &domain, role, &roots)? {
                println!("Nothing is changed.");
                return Ok(ExitCode::FAILURE);
            }
        }
        for (path, bytes) in [(&places.key, key), (&places.certificate, pair.chain_pem()?)] {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            let old = keys::replace(path, &bytes).with_context(|| format!("{} cannot be written", path.display()))?;
            match old {
                Some(old) => println!("{} is in place; what was there is {}", path.display(), old.display()),
                None => println!("{} is in place", path.display()),
            }
        }
        println!("A running server takes it up within seconds; its log says so.");
        Ok(ExitCode::SUCCESS)
    }

    /// The key as it is to be stored.
    fn key(&self, files: &[u8], places: &PairFiles) -> anyhow::Result<Vec<u8>> {
        if let Some(path) = &self.key {
            return keys::read(path);
        }
        let text = String::from_utf8_lossy(files);
        if let Some(from) = text.find("-----BEGIN").and_then(|_| find_key(&text)) {
            return Ok(from.as_bytes().to_vec());
        }
        keys::read(&places.key).context("there is no key in the files, and none in place: say --key FILE")
    }
}

/// The block of a private key in a PEM text.
fn find_key(text: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(start) = text[from..].find("-----BEGIN ").map(|at| from + at) {
        let end = start + text[start..].find("-----END ")?;
        let end = end + 9 + text[end + 9..].find("-----")? + 5;
        if text[start..].lines().next()?.contains("PRIVATE KEY") {
            return Some(&text[start..end]);
        }
        from = end;
    }
    None
}

/// Prints a pair and what others will say to it; whether they will take it.
fn report(pair: &Pair, domain: &Domain, role: Role, roots: &TrustRoots) -> anyhow::Result<bool> {
    let chain = pair.shown()?;
    let own = chain.first().context("a pair has a certificate")?;
    print_certificate(own);
    println!("  key       {}; the key matches", pair.key());
    for issuer in &chain[1..] {
        println!(
            "  then      {} ({}), until {}",
            issuer.subject, issuer.key, issuer.dates.1
        );
    }
    let findings = pair.findings(domain, role, roots, now())?;
    for finding in &findings {
        println!(
            "  {:<9} {}",
            if finding.grave { "problem" } else { "warning" },
            finding.text
        );
    }
    let good = !findings.iter().any(|finding| finding.grave);
    if good {
        println!("  good      for {domain}");
    }
    Ok(good)
}

fn print_certificate(shown: &Shown) {
    println!("  subject   {}", shown.subject);
    println!("  issuer    {}", shown.issuer);
    println!("  names     {}", shown.names.join(", "));
    println!(
        "  valid     from {} until {} ({} days left)",
        shown.dates.0,
        shown.dates.1,
        days_left(shown.until, now())
    );
    if !shown.critical.is_empty() {
        println!("  critical  {}", shown.critical.join(", "));
    }
}

fn described(role: Role) -> &'static str {
    match role {
        Role::Tls => "tls: what other servers are shown",
        Role::Signer => "signer: what signs your users' changes",
    }
}

fn configured(path: &Path) -> anyhow::Result<(Domain, FederationConfig)> {
    let config = Config::load(path)?;
    let federation = config.federation.with_context(|| {
        format!(
            "{}: federation is not enabled, so it names no certificates (billow init --federation)",
            path.display()
        )
    })?;
    Ok((config.domain, federation))
}

fn roots<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<TrustRoots> {
    let mut roots = TrustRoots::system();
    for path in files {
        roots = roots
            .with_pem(&keys::read(path)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(roots)
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX / 2))
}
