//! `billow dns`: the records by which other servers find a domain.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use billow_model::Domain;
use billow_server::config::Config;
use billow_server::records::{Record, USUAL_PORT, Wanted, domain_from_person};
use clap::{Args, Subcommand, ValueEnum};

/// The DNS records by which other servers find this one.
#[derive(Debug, Args)]
pub(crate) struct Dns {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Records(Records),
}

/// Print the records to put into DNS, as a zone file and as a provider's web page asks for them.
///
/// Which records are needed:
/// the service is the domain itself (Billow's own way, the default): one SRV record for the domain;
/// discovery names another service (--service chat.example.org, for a component behind another XMPP server): one for the domain and one for that name;
/// servers that do without discovery guess wave.DOMAIN (--no-discovery): one for the domain and one for that.
#[derive(Debug, Args)]
struct Records {
    /// The domain; without it that of the configuration
    domain: Option<String>,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "billow.toml")]
    config: PathBuf,
    /// The name of the wave service, if it is not the domain itself
    #[arg(long, value_name = "NAME", conflicts_with = "no_discovery")]
    service: Option<String>,
    /// Other servers do not discover the service: they guess wave.DOMAIN
    #[arg(long)]
    no_discovery: bool,
    /// The host that runs the server [default: wave.DOMAIN]
    #[arg(long, value_name = "HOST")]
    target: Option<String>,
    /// The port at which it is reached from outside
    #[arg(long, default_value_t = USUAL_PORT)]
    port: u16,
    /// An address at which it is reached from outside; may be given several times
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// Address records instead of SRV records; for port 5269 only
    #[arg(long)]
    a_records: bool,
    /// Also _xmpps-server records, for servers that begin with TLS at once (XEP-0368)
    #[arg(long)]
    direct_tls: bool,
    /// How long answers may be kept, in seconds
    #[arg(long, default_value_t = 3600)]
    ttl: u32,
    /// Only one of the two forms
    #[arg(long)]
    form: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines of a zone file
    Zone,
    /// The fields of a provider's web page
    Fields,
}

impl Dns {
    /// Prints the records.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Action::Records(records) = self.command;
        let form = records.form;
        let wanted = records.wanted()?;
        let list = wanted.records()?;
        if form != Some(Form::Fields) {
            print!("{}", zone_lines(&wanted, &list));
        }
        if form.is_none() {
            println!();
        }
        if form != Some(Form::Zone) {
            print!("{}", field_lines(&list));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Records {
    fn wanted(self) -> anyhow::Result<Wanted> {
        let name = |text: &str| domain_from_person(text).map_err(anyhow::Error::msg);
        let domain = match &self.domain {
            Some(text) => name(text)?,
            None => configured(&self.config)?,
        };
        let mut wanted = Wanted::new(domain);
        if self.no_discovery {
            wanted.service = name(&format!("wave.{}", wanted.domain))?;
        }
        if let Some(service) = &self.service {
            wanted.service = name(service)?;
        }
        if let Some(target) = &self.target {
            wanted.target = name(target)?;
        }
        wanted.port = self.port;
        wanted.addresses = self.address;
        wanted.plain_addresses = self.a_records;
        wanted.direct_tls = self.direct_tls;
        wanted.ttl = self.ttl;
        Ok(wanted)
    }
}

fn configured(path: &Path) -> anyhow::Result<Domain> {
    let config = Config::load(path).context("no DOMAIN was given, and the configuration cannot be read")?;
    Ok(config.domain)
}

/// Lines of a zone file; what is not known is said in a comment.
pub(super) fn zone_lines(wanted: &Wanted, records: &[Record]) -> String {
    let mut text: String = records.iter().map(|record| format!("{record}\n")).collect();
    if wanted.addresses.is_empty() {
        text += &format!(
            "; {} must have an A or AAAA record with the public address of the server\n",
            wanted.target
        );
    }
    text
}

/// The fields of a provider's web page, a block for each record.
pub(super) fn field_lines(records: &[Record]) -> String {
    let blocks: Vec<String> = records
        .iter()
        .map(|record| {
            let lines = record.fields().into_iter();
            lines.map(|(field, value)| format!("{field:<9} {value}\n")).collect()
        })
        .collect();
    blocks.join("\n")
}
