//! `billow init`: from a domain to a server that runs: a configuration, keys, and what to tell DNS and the firewall.

mod text;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use billow_model::Domain;
use billow_server::config::Config;
use billow_server::keys;
use billow_server::records::{USUAL_PORT, Wanted, domain_from_person};
use clap::Args;

use super::cert::{MadePair, with_authority};
use super::dns::{field_lines, zone_lines};
use text::Certificates;

/// Set a server up: write billow.toml and keys, and say what DNS and the firewall need.
///
/// Asks for what is not given; with --yes it asks nothing and takes the usual. Nothing that is there is overwritten: run again, it
/// says what is there and prints the records again. `billow init --federation` switches federation on in a configuration that
/// has it off, and keeps the old one as billow.toml.old.
///
/// The domain cannot be changed once there is data; everything else can, in billow.toml.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The domain of your users' addresses: example.org for alice@example.org
    domain: Option<String>,
    /// Where billow.toml, the keys and the data go
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// A certificate that the server signs itself: for trying things out
    #[arg(long, group = "certificates")]
    self_signed: bool,
    /// A certificate of an authority of your own, made in the folder: for a lab, or for servers that all trust it
    #[arg(long, group = "certificates")]
    ca: bool,
    /// A certificate from a public authority, fetched and renewed by itself (ACME); give your e-mail address
    #[arg(long, value_name = "E-MAIL", group = "certificates", requires = "agree_to_terms")]
    acme: Option<String>,
    /// You have read the terms of service of the authority of --acme
    #[arg(long)]
    agree_to_terms: bool,
    /// Another authority than Let's Encrypt
    #[arg(long, value_name = "URL", requires = "acme")]
    acme_directory: Option<String>,
    /// No federation for now
    #[arg(long, group = "certificates", conflicts_with = "federation")]
    no_federation: bool,
    /// Switch federation on in the configuration that is there
    #[arg(long)]
    federation: bool,
    /// Where browsers (or the web server in front) reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9898")]
    http: SocketAddr,
    /// Where other servers reach it
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:5269")]
    listen: SocketAddr,
    /// The port at which they reach it from outside [default: that of --listen]
    #[arg(long)]
    port: Option<u16>,
    /// The public address of this machine, for the DNS records; may be given several times
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

impl Init {
    /// Writes what is missing, then says what is to be done elsewhere.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.dir.join("billow.toml");
        let domain = if config.exists() {
            self.look_again(&config)?
        } else {
            self.write(&config)?
        };
        self.say_what_is_next(&config, &domain)?;
        Ok(ExitCode::SUCCESS)
    }

    /// There is a configuration: it is left alone, or federation is switched on in it.
    fn look_again(&self, path: &Path) -> anyhow::Result<Domain> {
        let config = Config::load(path)?;
        let domain = config.domain.clone();
        if let Some(given) = &self.domain
            && read_domain(given)? != domain
        {
            bail!(
                "{} is there already, and is for {domain}; a server's domain cannot be changed once it has data: choose \
                 another --dir",
                path.display()
            );
        }
        match (self.federation, &config.federation) {
            (false, _) => println!("{} is there already, for {domain}; nothing is changed.", path.display()),
            (true, Some(_)) => println!("{}: federation is on already; nothing is changed.", path.display()),
            (true, None) => self.switch_on(path, &domain)?,
        }
        Ok(domain)
    }

    fn switch_on(&self, path: &Path, domain: &Domain) -> anyhow::Result<()> {
        let before = String::from_utf8(keys::read(path)?).context("billow.toml is not text")?;
        let named = text::names_pair(&before);
        let certificates = if named {
            Certificates::Named
        } else {
            self.certificates(domain)?
        };
        let after = text::with_federation(&before, &certificates, self.listen);
        Config::parse(path, &after)
            .context("federation cannot be switched on by itself here; set enabled = true by hand")?;
        if let Some(old) = keys::replace(path, after.as_bytes())? {
            println!(
                "{}: federation is on; what was there is {}",
                path.display(),
                old.display()
            );
        }
        println!("Waves that are there stay; a running server must be started again.");
        Ok(())
    }

    fn write(&self, path: &Path) -> anyhow::Result<Domain> {
        let domain = match &self.domain {
            Some(text) => read_domain(text)?,
            None if self.yes => bail!("expected a domain: billow init example.org"),
            None => read_domain(&ask("The domain of your users' addresses, like example.org: ")?)?,
        };
        std::fs::create_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        let certificates = if self.no_federation || domain.as_str() == "localhost" {
            Certificates::None
        } else {
            self.certificates(&domain)?
        };
        let text = text::config(&domain, &certificates, self.http, self.listen);
        let config = Config::parse(path, &text)?;
        keys::write_new(path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}", path.display());
        println!(
            "\nThe domain is {domain}. It is in every address (alice@{domain}) and is signed into every wave: it can never \
             be changed once there is data.\nEverything else can be, in {}: ports, certificates, who may have an account, \
             federation; the data folder, if you move the data.",
            path.display()
        );
        let files = config.check_files();
        for warning in files.warnings {
            println!("warning: {warning}");
        }
        anyhow::ensure!(files.problems.is_empty(), "{}", files.problems.join("\n"));
        Ok(domain)
    }

    /// The pair that the server is to have, made if there is none in the folder.
    fn certificates(&self, domain: &Domain) -> anyhow::Result<Certificates> {
        if let Some(contact) = &self.acme {
            return Ok(Certificates::Acme {
                contact: contact.clone(),
                directory: self.acme_directory.clone(),
            });
        }
        let (certificate, key) = (format!("{domain}.crt"), format!("{domain}.key"));
        let (there, ours) = (self.dir.join(&certificate), self.dir.join("ca.crt"));
        let by_authority = self.ca || (!self.self_signed && !there.exists() && self.wants_authority()?);
        if there.exists() {
            println!("{} is there already and is used", there.display());
        } else if by_authority {
            let authority = with_authority(&self.dir, "Wave authority", None)?;
            MadePair::make(&self.dir, domain, Some(&authority))?;
        } else {
            MadePair::make(&self.dir, domain, None)?;
        }
        let root = if by_authority || (ours.exists() && !self.self_signed) {
            "ca.crt".to_owned()
        } else {
            certificate.clone()
        };
        Ok(Certificates::Files { certificate, key, root })
    }

    fn wants_authority(&self) -> anyhow::Result<bool> {
        if self.yes || !std::io::stdin().is_terminal() {
            return Ok(false);
        }
        println!(
            "A certificate proves to other servers who you are. One of a public authority is fetched with\n\
             `billow init DOMAIN --acme YOUR-E-MAIL --agree-to-terms`. Or, for now:\n\
             1  self-signed: other servers must be told by name to believe it\n\
             2  by an authority of your own, made here: for several servers of yours"
        );
        Ok(ask("1 or 2 [1]: ")?.trim() == "2")
    }

    fn say_what_is_next(&self, path: &Path, domain: &Domain) -> anyhow::Result<()> {
        let config = Config::load(path)?;
        let shown = path.display();
        if let Some(federation) = &config.federation {
            let mut wanted = Wanted::new(domain.clone());
            let listening = federation.listen.port();
            wanted.port = self.port.unwrap_or(if listening == 0 { USUAL_PORT } else { listening });
            wanted.addresses.clone_from(&self.address);
            let records = wanted.records()?;
            println!(
                "\nPut into DNS (`billow dns records --config {shown}` prints it again); in a zone file:\n\n{}\nor, field by \
                 field, on a provider's web page:\n\n{}",
                zone_lines(&wanted, &records),
                field_lines(&records)
            );
            println!(
                "Firewall: let TCP port {} in from everywhere (behind a router: forward it to port {} of this machine), \
                 and let connections out.",
                wanted.port, listening
            );
            if let Some(acme) = &federation.acme {
                let at = acme.listen.map_or(config.http.listen.port(), |listen| listen.port());
                println!(
                    "The authority asks at {} for its challenge ({}): let TCP port {at} in as well. Until the certificate \
                     is there the server runs without federation; its log says how far it is.",
                    acme.names_for(domain)
                        .iter()
                        .map(Domain::as_str)
                        .collect::<Vec<_>>()
                        .join(" and "),
                    acme.challenge.word()
                );
            } else if federation.trust_roots.contains(&federation.certificate) {
                println!(
                    "The certificate is self-signed: other servers believe it only where their operators have said so. One \
                     that everybody believes: billow cert csr {domain}, or [federation.acme] in {shown}."
                );
            }
        }
        println!("\nNext:\n  billow config check --config {shown}\n  billow serve --config {shown}");
        Ok(())
    }
}

fn read_domain(text: &str) -> anyhow::Result<Domain> {
    domain_from_person(text).map_err(anyhow::Error::msg)
}

/// Asks at the terminal; the end of the input is an error.
fn ask(question: &str) -> anyhow::Result<String> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer)?;
    anyhow::ensure!(
        read > 0,
        "no answer came: give everything on the command line (billow init --help)"
    );
    Ok(answer)
}
