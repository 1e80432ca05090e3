//! `billow.toml`: the configuration of a server, read once and checked when it is read.
//!
//! Every key, with its default:
//!
//! ```toml
//! domain = "localhost"            # addresses here end in @domain; cannot be changed once there is data
//! data_dir = "./billow-data"      # paths are relative to the file's folder
//!
//! [http]
//! listen = "127.0.0.1:9898"       # the web client and its WebSocket; plain HTTP, put a TLS proxy in front
//! public_url = "https://…"        # as browsers see it, when a proxy is in front; default: any name that reaches us
//! metrics_listen = "127.0.0.1:…"  # /metrics and /healthz; default: on `listen`, if that is loopback without public_url
//!
//! [accounts]
//! registration = "invitation"     # "open", "invitation" or "closed"; default "open" for the domain localhost
//! administrators = []             # people here, ["alice"], who may see and change how the server runs
//!
//! [federation]
//! enabled = false
//! listen = "[::]:5269"            # server-to-server XMPP
//! certificate = "domain.pem"      # TLS certificate chain of the domain; needed when enabled
//! key = "domain.key"              # its private key, mode 0600
//! signer_certificate = "…"        # RSA certificate that signs our users' deltas; default: the one above
//! signer_key = "…"
//! key_passphrase_file = "…"       # its first line opens the keys, if they are encrypted
//! trust_roots = []                # PEM files of further authorities, besides the system's
//! nameservers = []                # ip:port of DNS servers to ask instead of the system's
//! allow_private_addresses = false # may other domains be at private and loopback addresses
//! allowed_networks = []           # networks (10.1.0.0/16) at which they may be besides the public Internet
//! dialback = []                   # domains known by server dialback if their certificate does not do; "*": all
//! retry_cap_seconds = 3600        # the longest pause between two tries to reach a domain
//! found_minutes = 120             # how long the service that was found for a domain is taken for granted
//! not_found_minutes = 5           # how long a domain without one is left alone, unless it speaks
//! ping_on_start = []              # domains to ping when the server starts; the log says how it went
//! unopened_wavelets = 10000       # wavelets of one other domain that nobody here has opened
//! unopened_megabytes = 256        # what these may take
//!
//! [federation.component]          # behind another XMPP server (XEP-0114); then no listen, certificate and key above
//! address = "127.0.0.1:5347"      # its port for components
//! name = "wave.example.org"       # our name there
//! secret_file = "component.secret" # what it knows us by, mode 0600; made by billow xmpp-config
//! trusted_network = false         # may the address be on another machine, though nothing is encrypted
//!
//! [federation.policy]             # docs/admin/federation.md; what was decided at run time counts before all of it
//! mode = "open"                   # "open": all; "allow": only those in allow; "deny": all but those in deny; "ask": you are asked
//! allow = []                      # domains, or "*.partner.org" for those below one
//! deny = []
//! requests = "first_contact"      # invitations of unknown domains are requests first; "never": they are not
//! known = []                      # domains that are known from the start
//! new_wavelets_per_hour = 1000    # of one other domain
//! megabytes_per_hour = 1024       # of one other domain
//! users_per_hour = 10000          # of one other domain, who write here
//! new_domains_per_user_per_hour = 10 # domains new here that one user invites somebody of
//!
//! [pins."acme.com"]               # a domain that is believed on the word of these certificates only, for TLS and for what
//! certificates = ["acme.pem"]     # its users sign: PEM files, of authorities or of the domain itself
//!
//! [limits]
//! message_bytes = 1048576         # one WebSocket message
//! outbound_bytes = 1048576        # waiting to be sent to one client; more: it is cut off and comes back
//! submission_operations = 1000    # operations in one submission
//! registrations_per_hour = 60     # new accounts from one address
//! sockets_per_account = 50
//!
//! [log]
//! level = "info"                  # or "warn", "debug", "billow_net=debug,info", …
//! ```

mod acme;
mod check;
mod component;
mod file;
mod pins;
mod policy;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use billow_model::{Domain, ParticipantId};
use billow_net::{DialbackPolicy, Network};
use billow_store::Quota;
use toml::de::DeTable;

pub use acme::{AcmeConfig, Challenge};
pub use check::FileCheck;
pub use component::ComponentSettings;
pub use file::Places;
use file::{Section, Source};
pub use pins::PinConfig;
pub use policy::{Mode, PolicyConfig};

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The domain of our users and of the waves made here.
    pub domain: Domain,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The web side.
    pub http: HttpConfig,
    /// Who may have an account.
    pub accounts: AccountsConfig,
    /// How other domains are reached; `None`: not at all.
    pub federation: Option<FederationConfig>,
    /// Domains that are believed on the word of certain certificates only.
    pub pins: BTreeMap<Domain, PinConfig>,
    /// Bounds.
    pub limits: LimitsConfig,
    /// What is logged: a filter of `tracing`.
    pub log_level: String,
    /// Where the file says what.
    pub places: Places,
}

/// `[http]`
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Scheme and authority as browsers see them, without a slash at the end.
    pub public_url: Option<String>,
    /// Where to tell how we are.
    pub metrics_listen: Option<SocketAddr>,
}

/// `[accounts]`
#[derive(Debug, Clone)]
pub struct AccountsConfig {
    /// Who may make one.
    pub registration: Registration,
    /// Who may see and change how the server runs.
    pub administrators: Vec<ParticipantId>,
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Everybody.
    Open,
    /// Who has been given an invitation.
    Invitation,
    /// Nobody.
    Closed,
}

/// `[federation]`, when it is enabled.
#[derive(Debug, Clone)]
pub struct FederationConfig {
    /// Where other domains reach us.
    pub listen: SocketAddr,
    /// TLS certificate chain of the domain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Chain whose key signs our users' deltas.
    pub signer_certificate: PathBuf,
    /// That key.
    pub signer_key: PathBuf,
    /// Where the pass phrase of the keys is, if they are encrypted.
    pub key_passphrase_file: Option<PathBuf>,
    /// How the certificate is fetched and renewed, if it is.
    pub acme: Option<AcmeConfig>,
    /// PEM files of authorities trusted besides the system's.
    pub trust_roots: Vec<PathBuf>,
    /// DNS servers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Whether other domains may be at private and loopback addresses.
    pub allow_private_addresses: bool,
    /// Networks at which they may be besides the public Internet.
    pub allowed_networks: Vec<Network>,
    /// Which other domains may be known by server dialback.
    pub dialback: DialbackPolicy,
    /// The longest pause between two tries to reach a domain.
    pub retry_cap: Duration,
    /// How long a service that was found is taken for granted, and how long a domain without one is left alone, in
    /// milliseconds.
    pub lives: (i64, i64),
    /// Domains to ping when the server starts.
    pub ping_on_start: Vec<Domain>,
    /// What each domain may store here that none of our users has opened.
    pub unopened: Quota,
    /// The XMPP server over which all of them are reached; `None`: each by a stream of our own.
    pub component: Option<ComponentSettings>,
    /// Which domains we talk with.
    pub policy: PolicyConfig,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Bytes of one WebSocket message.
    pub message_bytes: usize,
    /// Bytes waiting to be sent to one client.
    pub outbound_bytes: usize,
    /// Operations of one submission.
    pub submission_operations: usize,
    /// New accounts from one network address.
    pub registrations_per_hour: u32,
    /// Open WebSockets of one account.
    pub sockets_per_account: usize,
}

/// What is wrong with a configuration, one line a problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Each with file and line.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

const TOP: &[&str] = &[
    "domain",
    "data_dir",
    "http",
    "accounts",
    "federation",
    "pins",
    "limits",
    "log",
];
const HTTP: &[&str] = &["listen", "public_url", "metrics_listen"];
const ACCOUNTS: &[&str] = &["registration", "administrators"];
const FEDERATION: &[&str] = &[
    "enabled",
    "listen",
    "certificate",
    "key",
    "signer_certificate",
    "signer_key",
    "key_passphrase_file",
    "acme",
    "trust_roots",
    "nameservers",
    "allow_private_addresses",
    "allowed_networks",
    "dialback",
    "retry_cap_seconds",
    "found_minutes",
    "not_found_minutes",
    "ping_on_start",
    "unopened_wavelets",
    "unopened_megabytes",
    "component",
    "policy",
];
const LIMITS: &[&str] = &[
    "message_bytes",
    "outbound_bytes",
    "submission_operations",
    "registrations_per_hour",
    "sockets_per_account",
];
const LOG: &[&str] = &["level"];

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "localhost".parse().expect("localhost is a domain"),
            data_dir: PathBuf::from("./billow-data"),
            http: HttpConfig::default(),
            accounts: AccountsConfig {
                registration: Registration::Open,
                administrators: Vec::new(),
            },
            federation: None,
            pins: BTreeMap::new(),
            limits: LimitsConfig::default(),
            log_level: "info".to_owned(),
            places: Places::default(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9898);
        Self {
            listen,
            public_url: None,
            metrics_listen: None,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            outbound_bytes: 1 << 20,
            submission_operations: 1000,
            registrations_per_hour: 60,
            sockets_per_account: 50,
        }
    }
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => Err(ConfigError {
                problems: vec![format!("{}: cannot be read: {error}", path.display())],
            }),
        }
    }

    /// Reads the text of a file; `path` is for messages, and its folder is where relative paths start.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut source = Source::new(path, text);
        let config = match DeTable::parse(text) {
            Ok(table) => Some(Self::read(&mut source, table.get_ref())),
            Err(error) => {
                source.syntax(&error);
                None
            }
        };
        match (source.into_problems(), config) {
            (problems, Some(config)) if problems.is_empty() => Ok(config),
            (problems, _) => Err(ConfigError { problems }),
        }
    }

    fn read<'a>(source: &mut Source<'_>, table: &'a DeTable<'a>) -> Self {
        let top = source.top(table, TOP);
        let default = Self::default();
        let domain: Domain = top
            .parsed(source, "domain", "a lower-case domain like example.org")
            .unwrap_or(default.domain);
        let registration = match domain.as_str() {
            "localhost" => Registration::Open,
            _ => Registration::Invitation,
        };
        let http = top.section(source, "http", HTTP);
        let accounts = top.section(source, "accounts", ACCOUNTS);
        let federation = top.section(source, "federation", FEDERATION);
        let limits = top.section(source, "limits", LIMITS);
        let log = top.section(source, "log", LOG);
        let data_dir = top.path(source, "data_dir").unwrap_or(default.data_dir);
        Self {
            http: HttpConfig::read(source, &http),
            accounts: AccountsConfig {
                registration: accounts
                    .text(
                        source,
                        "registration",
                        "\"open\", \"invitation\" or \"closed\"",
                        Registration::from_word,
                    )
                    .unwrap_or(registration),
                administrators: accounts
                    .texts(
                        source,
                        "administrators",
                        "a list of people here like [\"alice\"]",
                        |text| person_here(text, &domain),
                    )
                    .unwrap_or_default(),
            },
            federation: FederationConfig::read(source, &federation, &data_dir),
            data_dir,
            pins: pins::read(source, &top),
            limits: LimitsConfig::read(source, &limits),
            log_level: log
                .text(
                    source,
                    "level",
                    "a level like \"info\" or a filter like \"billow_net=debug,info\"",
                    log_filter,
                )
                .unwrap_or(default.log_level),
            domain,
            places: source.places(),
        }
    }
}

/// Somebody of a domain, named with it or without.
fn person_here(text: &str, domain: &Domain) -> Option<ParticipantId> {
    let address: ParticipantId = match text.contains('@') {
        true => text.parse().ok()?,
        false => format!("{text}@{domain}").parse().ok()?,
    };
    (address.domain() == *domain && !text.starts_with('@')).then_some(address)
}

/// A filter of `tracing`; a word alone is a level, for as the name of a module it would silence everything else.
fn log_filter(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |part: &str| LEVELS.iter().any(|level| part.trim().eq_ignore_ascii_case(level));
    let words = text.split(',').all(|part| part.contains('=') || is_level(part));
    (words && text.parse::<tracing_subscriber::EnvFilter>().is_ok()).then(|| text.to_owned())
}

impl Registration {
    /// As it is written in the file and told to clients.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invitation => "invitation",
            Self::Closed => "closed",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Invitation, Self::Closed]
            .into_iter()
            .find(|registration| registration.word() == word)
    }
}

impl HttpConfig {
    fn read<'a>(source: &mut Source<'_>, section: &Section<'a>) -> Self {
        Self {
            listen: section
                .address(source, "listen", "127.0.0.1:9898")
                .unwrap_or(Self::default().listen),
            public_url: section.text(
                source,
                "public_url",
                "a URL like \"https://wave.example.org\"",
                web_origin,
            ),
            metrics_listen: section.address(source, "metrics_listen", "127.0.0.1:9899"),
        }
    }
}

/// `https://host[:port]`, as a browser's Origin header has it.
fn web_origin(url: &str) -> Option<String> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
    (!authority.is_empty() && authority.chars().all(plain)).then(|| url.to_owned())
}

/// The policy for a list of domains, of which `None` stands for all.
fn dialback_policy(listed: Vec<Option<billow_xmpp::Domain>>) -> DialbackPolicy {
    if listed.is_empty() {
        return DialbackPolicy::Never;
    }
    let listed: Option<_> = listed.into_iter().collect();
    listed.map_or(DialbackPolicy::Always, DialbackPolicy::With)
}

impl FederationConfig {
    fn read<'a>(source: &mut Source<'_>, section: &Section<'a>, data_dir: &Path) -> Option<Self> {
        let enabled = section.flag(source, "enabled").unwrap_or(false);
        let certificate = section.path(source, "certificate");
        let key = section.path(source, "key");
        let signer_certificate = section.path(source, "signer_certificate");
        let signer_key = section.path(source, "signer_key");
        let component = ComponentSettings::read(source, section);
        let is_component = section.has("component");
        let unopened = Quota::default();
        let policy = section.inner(source, "policy", "federation.policy", policy::POLICY);
        let rest = Self {
            component,
            policy: PolicyConfig::read(source, &policy),
            listen: section
                .address(source, "listen", "[::]:5269")
                .unwrap_or(SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 5269)),
            trust_roots: section.paths(source, "trust_roots").unwrap_or_default(),
            nameservers: section
                .addresses(source, "nameservers", "127.0.0.1:53")
                .unwrap_or_default(),
            allow_private_addresses: section.flag(source, "allow_private_addresses").unwrap_or(false),
            allowed_networks: section
                .texts(
                    source,
                    "allowed_networks",
                    "a list of networks like [\"10.1.0.0/16\"]",
                    |text| text.parse().ok(),
                )
                .unwrap_or_default(),
            dialback: section
                .texts(
                    source,
                    "dialback",
                    "a list of domains like [\"example.org\"], or [\"*\"]",
                    |text| match text {
                        "*" => Some(None),
                        name => name.parse().ok().filter(billow_xmpp::Domain::is_routable).map(Some),
                    },
                )
                .map_or(DialbackPolicy::Never, dialback_policy),
            retry_cap: Duration::from_secs(section.number(source, "retry_cap_seconds", 1, 86_400).unwrap_or(3600)),
            lives: {
                let mut minutes = |key, otherwise| {
                    let minutes = section.number(source, key, 1, 10_080).unwrap_or(otherwise);
                    i64::try_from(minutes * 60_000).unwrap_or(i64::MAX)
                };
                (minutes("found_minutes", 120), minutes("not_found_minutes", 5))
            },
            ping_on_start: section
                .texts(
                    source,
                    "ping_on_start",
                    "a list of domains like [\"example.org\"]",
                    |text| text.parse().ok(),
                )
                .unwrap_or_default(),
            unopened: Quota {
                wavelets: section
                    .number(source, "unopened_wavelets", 1, 1_000_000)
                    .and_then(|wavelets| wavelets.try_into().ok())
                    .unwrap_or(unopened.wavelets),
                bytes: section
                    .number(source, "unopened_megabytes", 1, 100_000)
                    .map_or(unopened.bytes, |megabytes| megabytes << 20),
            },
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            signer_certificate: PathBuf::new(),
            signer_key: PathBuf::new(),
            key_passphrase_file: section.path(source, "key_passphrase_file"),
            acme: AcmeConfig::read(source, section),
        };
        if !enabled {
            return None;
        }
        if section.has("signer_certificate") != section.has("signer_key") {
            let given = ["signer_certificate", "signer_key"]
                .into_iter()
                .find(|key| section.has(key));
            let text = "[federation] needs both signer_certificate and signer_key, or neither";
            section.problem_at(source, given.unwrap_or("enabled"), text);
        }
        // Behind an XMPP server there is no TLS of ours; the signer's pair is all that is needed.
        let (certificate, key) = match (is_component, &rest.acme) {
            (true, _) => (certificate.or(signer_certificate.clone()), key.or(signer_key.clone())),
            (false, Some(_)) => (
                Some(certificate.unwrap_or_else(|| data_dir.join("acme/certificate.pem"))),
                Some(key.unwrap_or_else(|| data_dir.join("acme/key.pem"))),
            ),
            (false, None) => (certificate, key),
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self {
                signer_certificate: signer_certificate.unwrap_or_else(|| certificate.clone()),
                signer_key: signer_key.unwrap_or_else(|| key.clone()),
                certificate,
                key,
                ..rest
            }),
            _ => {
                let has = |key| section.has(key) || (is_component && section.has(&format!("signer_{key}")));
                if !has("certificate") || !has("key") {
                    let text = match is_component {
                        true => "[federation] is enabled and needs signer_certificate and signer_key",
                        false => {
                            "[federation] is enabled and needs certificate and key (billow init --federation makes them)"
                        }
                    };
                    section.problem_at(source, "enabled", text);
                }
                None
            }
        }
    }
}

impl LimitsConfig {
    fn read<'a>(source: &mut Source<'_>, section: &Section<'a>) -> Self {
        let default = Self::default();
        let mut size = |key, from, to, otherwise| {
            section
                .number(source, key, from, to)
                .map_or(otherwise, |number| usize::try_from(number).unwrap_or(otherwise))
        };
        Self {
            message_bytes: size("message_bytes", 65_536, 64 << 20, default.message_bytes),
            outbound_bytes: size("outbound_bytes", 65_536, 1 << 30, default.outbound_bytes),
            submission_operations: size("submission_operations", 1, 100_000, default.submission_operations),
            sockets_per_account: size("sockets_per_account", 1, 1_000_000, default.sockets_per_account),
            registrations_per_hour: section
                .number(source, "registrations_per_hour", 0, 1_000_000)
                .map_or(default.registrations_per_hour, |number| {
                    u32::try_from(number).unwrap_or(u32::MAX)
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(Path::new("billow.toml"), text).map_err(|error| error.problems)
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = parse("").unwrap();
        assert_eq!(config.domain.as_str(), "localhost");
        assert_eq!(config.accounts.registration, Registration::Open);
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:9898");
        assert!(config.federation.is_none());
    }

    #[test]
    fn dialback_and_networks_are_lists_that_are_checked() {
        let federation = |more: &str| {
            let text = format!("[federation]\nenabled = true\ncertificate = \"c\"\nkey = \"k\"\n{more}\n");
            parse(&text).map(|config| config.federation.unwrap())
        };
        assert_eq!(federation("").unwrap().dialback, DialbackPolicy::Never);
        assert_eq!(federation("dialback = []").unwrap().dialback, DialbackPolicy::Never);
        assert_eq!(
            federation("dialback = [\"*\"]").unwrap().dialback,
            DialbackPolicy::Always
        );
        let one = federation("dialback = [\"acme.lab\"]").unwrap().dialback;
        assert!(one.allows(&"acme.lab".parse().unwrap()) && !one.allows(&"other.lab".parse().unwrap()));
        let near = federation("allowed_networks = [\"10.1.0.0/16\"]")
            .unwrap()
            .allowed_networks;
        assert!(near[0].contains("10.1.2.3".parse().unwrap()));
        assert_eq!(
            federation("dialback = [\"localhost\"]").unwrap_err(),
            ["billow.toml:5: dialback: expected a list of domains like [\"example.org\"], or [\"*\"], got a list"]
        );
        assert_eq!(
            federation("allowed_networks = [\"10.0.0.0/99\"]").unwrap_err(),
            ["billow.toml:5: allowed_networks: expected a list of networks like [\"10.1.0.0/16\"], got a list"]
        );
    }

    #[test]
    fn a_policy_is_read_and_what_is_wrong_with_it_is_told_under_its_name() {
        let policy = |more: &str| {
            let text = format!(
                "[federation]\nenabled = true\ncertificate = \"c\"\nkey = \"k\"\n[federation.policy]\n{more}\n"
            );
            parse(&text).map(|config| config.federation.unwrap().policy)
        };
        assert_eq!(policy("").unwrap(), PolicyConfig::default());
        let ask = policy(
            "mode = \"ask\"\nallow = [\"acme.lab\", \"*.partner.lab\"]\nknown = [\"acme.lab\"]\nrequests = \"never\"\n\
             megabytes_per_hour = 3\nnew_domains_per_user_per_hour = 2",
        )
        .unwrap();
        assert_eq!((ask.mode, ask.allow.len(), ask.first_contact), (Mode::Ask, 2, false));
        assert_eq!(
            (ask.limits.bytes, ask.limits.new_domains, ask.limits.users),
            (3 << 20, 2, 10_000)
        );
        assert_eq!(
            policy("deny = [\"evil.lab\"]").unwrap_err(),
            [
                "billow.toml:6: deny: with mode \"open\" no list counts; say mode = \"deny\" (all but these), \"allow\" (only these) or \"ask\""
            ]
        );
        assert_eq!(
            policy("mode = \"closed\"\nalow = []").unwrap_err(),
            [
                "billow.toml:7: unknown key \"alow\" in [federation.policy], did you mean \"allow\"?",
                "billow.toml:6: mode: expected \"open\", \"allow\", \"deny\" or \"ask\", got \"closed\"",
            ]
        );
        assert_eq!(
            parse("[federation]\npolicy = 3\n").unwrap_err(),
            ["billow.toml:2: policy: expected a section [federation.policy], got 3"]
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_one_that_was_meant() {
        assert_eq!(
            parse("\n# a comment\ndoman = \"example.org\"\n").unwrap_err(),
            ["billow.toml:3: unknown key \"doman\", did you mean \"domain\"?"]
        );
        assert_eq!(
            parse("[federation]\ntrust_root = []\n").unwrap_err(),
            ["billow.toml:2: unknown key \"trust_root\" in [federation], did you mean \"trust_roots\"?"]
        );
        assert_eq!(
            parse("[accounts]\nquux = 1\n").unwrap_err(),
            ["billow.toml:2: unknown key \"quux\" in [accounts], expected one of registration, administrators"]
        );
    }

    #[test]
    fn r_01_no_key_turns_the_checks_of_signatures_off() {
        for line in [
            "verify_signatures = false",
            "disable_signer_verification = true",
            "waveserver_disable_verification = true",
            "waveserver_disable_signer_verification = true",
            "check_certificates = false",
            "insecure = true",
        ] {
            for section in ["", "[federation]\nenabled = true\n", "[pins.\"acme.com\"]\n"] {
                let problems = parse(&format!("{section}{line}\n")).unwrap_err();
                assert!(
                    problems.iter().any(|problem| problem.contains("unknown key")),
                    "{line}: {problems:?}"
                );
            }
        }
        // Nor is there one of another name.
        for key in [TOP, HTTP, ACCOUNTS, FEDERATION, LIMITS, LOG].concat() {
            for word in ["verif", "insecure", "skip", "unsafe", "disable", "signature", "check"] {
                assert!(!key.contains(word), "{key}");
            }
        }
    }

    #[test]
    fn a_wrong_value_says_what_was_expected_and_what_came() {
        let text = "domain = \"Example Org\"\n[http]\nlisten = 9898\npublic_url = \"ftp://x\"\n\
            [limits]\nmessage_bytes = 3\n[accounts]\nregistration = \"free\"\n";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                "billow.toml:1: domain: expected a lower-case domain like example.org, got \"Example Org\"",
                "billow.toml:3: listen: expected an address and port like \"127.0.0.1:9898\", got 9898",
                "billow.toml:4: public_url: expected a URL like \"https://wave.example.org\", got \"ftp://x\"",
                "billow.toml:8: registration: expected \"open\", \"invitation\" or \"closed\", got \"free\"",
                "billow.toml:6: message_bytes: expected a whole number from 65536 to 67108864, got 3",
            ]
        );
        assert_eq!(parse("domain = \n").unwrap_err().len(), 1);
        assert!(parse("domain = \n").unwrap_err()[0].starts_with("billow.toml:1: this is not TOML: "));
    }

    #[test]
    fn federation_needs_its_files_and_resolves_them_from_the_files_folder() {
        assert_eq!(
            parse("[federation]\nenabled = true\n").unwrap_err(),
            [
                "billow.toml:2: [federation] is enabled and needs certificate and key (billow init --federation makes them)"
            ]
        );
        let text = "domain = \"example.org\"\n[federation]\nenabled = true\ncertificate = \"c.pem\"\nkey = \"/k.pem\"\n\
            nameservers = [\"127.0.0.1:5353\"]\nretry_cap_seconds = 5\n";
        let config = Config::parse(Path::new("/etc/billow/billow.toml"), text).unwrap();
        let federation = config.federation.unwrap();
        assert_eq!(federation.certificate, Path::new("/etc/billow/c.pem"));
        assert_eq!(federation.signer_key, Path::new("/k.pem"));
        assert_eq!(federation.retry_cap, Duration::from_secs(5));
        assert_eq!(config.accounts.registration, Registration::Invitation);
    }

    #[test]
    fn a_log_level_is_a_level_or_a_filter() {
        for good in ["info", "WARN", "billow_net=debug,info"] {
            assert_eq!(parse(&format!("[log]\nlevel = \"{good}\"")).unwrap().log_level, good);
        }
        for bad in ["loud", "info,loud", "billow_net=loud", ""] {
            let problems = parse(&format!("[log]\nlevel = \"{bad}\"")).unwrap_err();
            assert!(
                problems[0].starts_with("billow.toml:2: level: expected a level"),
                "{problems:?}"
            );
        }
    }
}
