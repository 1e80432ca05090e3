//! `billow doctor`: says what is wrong with the set-up of this server, or with the way to another one, before anybody has to
//! read a log.
//!
//! Everything is found out with the code that delivers: the resolver, connections and TLS of [`billow_net`], discovery of
//! [`billow_federation`], the checks of [`crate::config`]. If the server runs, it is asked to ask; if not, its place is
//! taken for a moment. Nothing is changed.

mod certificates;
mod local;
mod names;
mod peer;
mod ports;
mod report;
mod voice;

use std::net::SocketAddr;
use std::path::PathBuf;

use billow_net::{DialbackPolicy, LocalDomain, NetConfig, Probe, ResolverChoice, StartError, TlsRoots};
use billow_xmpp::Domain;

use crate::config::{Config, FederationConfig};
use crate::federation::Trust;
use local::Tenant;
use names::{Place, Whose};
use ports::{Abroad, Home};
use voice::{Stand, Voice};

pub use local::ENOUGH_ROOM;
pub use report::{Finding, Report, Severity, Shows, Topic};
pub(crate) use voice::PATIENCE;

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Doctor {
    /// The configuration.
    pub config: PathBuf,
    /// The domain of another server; `None`: our own set-up.
    pub peer: Option<Domain>,
    /// Servers to be asked whether they reach ours.
    pub ask: Vec<Domain>,
    /// Free bytes on the disk below which there is a warning.
    pub enough: u64,
}

/// What is known of ourselves.
struct Own {
    config: Config,
    federation: FederationConfig,
    domain: Domain,
    /// Our certificate, if it can be used.
    local: Option<LocalDomain>,
    tenant: Tenant,
}

impl Doctor {
    /// Looks at everything.
    pub async fn examine(&self) -> Report {
        let mut report = Report {
            peer: self.peer.as_ref().map(ToString::to_string),
            ..Report::default()
        };
        let config = match Config::load(&self.config) {
            Ok(config) => {
                let what = format!("{} is understood", self.config.display());
                report.add(Finding::new(Severity::Good, Topic::Configuration, "config", what));
                Some(config)
            }
            Err(_) if self.peer.is_some() && !self.config.exists() => {
                let what = format!(
                    "there is no {}: the other server is looked at from outside only",
                    self.config.display()
                );
                report.add(Finding::new(Severity::Note, Topic::Configuration, "config-none", what));
                None
            }
            Err(error) => {
                local::configuration(&mut report, &error);
                None
            }
        };
        let own = match config {
            Some(config) => self.ourselves(&mut report, config).await,
            None => None,
        };
        match (&own, &self.peer) {
            (Some(own), peer) if own.federation.component.is_some() => {
                component(&mut report, own, peer.as_ref()).await;
            }
            (own, Some(peer)) => other_server(&mut report, own.as_ref(), peer).await,
            (Some(own), None) => own_server(&mut report, own, &self.ask).await,
            (None, None) => {}
        }
        report.sort();
        report
    }

    /// Looks at what lies here; `None` if there is no federation.
    async fn ourselves(&self, report: &mut Report, config: Config) -> Option<Own> {
        report.domain = Some(config.domain.to_string());
        local::data_folder(report, &config, self.enough);
        let tenant = local::tenant(report, &config, &self.config).await;
        local::secrets(report, &config);
        let Some(federation) = config.federation.clone() else {
            let what = "federation is not enabled: this server talks to no other";
            let finding = Finding::new(Severity::Note, Topic::Configuration, "federation-off", what);
            report.add(finding.change("[federation] enabled = true"));
            return None;
        };
        let probe = Probe::new(&net_config(Some((&config, &federation)), None)).ok();
        let local = certificates::own(report, &config, &federation, probe.as_ref());
        let files = config.check_files();
        for problem in files.problems {
            // What has been told in more words is told once.
            let told = report.is_broken(Topic::Certificates) || report.is_broken(Topic::Files);
            if !told {
                let finding = Finding::new(Severity::Error, Topic::Files, "config-file", problem.clone());
                report.add(
                    finding
                        .why("the server does not start with it")
                        .change(problem.split(": ").next().unwrap_or_default()),
                );
            }
        }
        let domain = config.domain.as_str().parse().ok()?;
        Some(Own {
            config,
            federation,
            domain,
            local,
            tenant,
        })
    }
}

/// The settings of a net that looks as our server does.
fn net_config(own: Option<(&Config, &FederationConfig)>, local: Option<LocalDomain>) -> NetConfig {
    let Some((config, settings)) = own else {
        return NetConfig {
            roots: TlsRoots {
                system: true,
                ..TlsRoots::default()
            },
            ..NetConfig::default()
        };
    };
    let pems = settings.trust_roots.iter().filter_map(|path| std::fs::read(path).ok());
    let readable = TlsRoots {
        system: true,
        extra_pem: pems.flat_map(|pem| [pem, b"\n".to_vec()].concat()).collect(),
        ..TlsRoots::default()
    };
    NetConfig {
        listen: vec![settings.listen],
        domains: local.into_iter().collect(),
        // What the server would not start with is told elsewhere.
        roots: Trust::read(config).map_or(readable, |trust| trust.tls),
        resolver: match settings.nameservers.as_slice() {
            [] => ResolverChoice::System,
            servers => ResolverChoice::Servers(servers.to_vec()),
        },
        allow_private_addresses: settings.allow_private_addresses,
        allowed_networks: settings.allowed_networks.clone(),
        dialback: settings.dialback.clone(),
        ..NetConfig::default()
    }
}

/// The XMPP server that we are a component of; and another server as it is reached over it.
async fn component(report: &mut Report, own: &Own, peer: Option<&Domain>) {
    let Some(settings) = &own.federation.component else {
        return;
    };
    let voice = match own.tenant {
        Tenant::Us => Voice::Server(own.config.data_dir.clone()),
        Tenant::Other => return,
        Tenant::Nobody => {
            let started = match settings.to_net() {
                Ok(component) => {
                    let config = NetConfig {
                        component: Some(component),
                        ..NetConfig::default()
                    };
                    let started = Stand::start(config, settings.name.clone()).await;
                    started.map_err(|error| error.to_string())
                }
                Err(error) => Err(format!("{error:#}")),
            };
            match started {
                Ok(stand) => Voice::Own(stand),
                Err(reason) => {
                    let finding = Finding::new(Severity::Error, Topic::Configuration, "component-settings", reason);
                    return report.add(finding.change(own.config.places.of("secret_file")));
                }
            }
        }
    };
    let line = format!(
        "{}: {}",
        own.config.places.of("secret_file"),
        settings.secret_file.display()
    );
    peer::in_front(report, &voice, &settings.name, &line).await;
    if let (Some(peer), false) = (peer, report.is_broken(Topic::Ports)) {
        let places = format!("the XMPP server in front of {}", settings.name);
        peer::interview(report, &voice, &settings.name, peer, &places).await;
    }
    if let Voice::Own(stand) = voice {
        stand.stop().await;
    }
}

/// Our own names and ports, as others see them.
async fn own_server(report: &mut Report, own: &Own, ask: &[Domain]) {
    let config = net_config(Some((&own.config, &own.federation)), None);
    let Some(probe) = probe(report, &config) else { return };
    let whose = Whose {
        domain: &own.domain,
        listen: Some(own.federation.listen),
        nameserver: own.federation.nameservers.first().copied(),
    };
    let places = names::look(report, &probe, whose).await;
    let Some(voice) = voice(report, own).await else {
        let what = "ports were not tried: no server runs here, and none can be stood in for";
        return report.add(Finding::new(Severity::Note, Topic::Ports, "ports-not-tried", what));
    };
    let certificate = own.local.as_ref().and_then(|local| first_der(&local.chain_pem));
    let home = Home {
        domain: &own.domain,
        listen: own.federation.listen,
        line: format!("{} = \"{}\"", own.config.places.of("listen"), own.federation.listen),
        certificate,
    };
    ports::own(report, &probe, &home, &places).await;
    let announced = in_words(&places);
    for peer in ask {
        peer::only_reached(report, &voice, &own.domain, peer, &announced).await;
    }
    if ask.is_empty() {
        let what = "whether others reach this server was not asked: `--ask DOMAIN` has another Billow server try";
        report.add(Finding::new(Severity::Note, Topic::Ports, "reach-not-asked", what));
    }
    if let Voice::Own(stand) = voice {
        stand.stop().await;
    }
}

/// The way to another server, and what it answers.
async fn other_server(report: &mut Report, own: Option<&Own>, peer: &Domain) {
    let local = own.and_then(|own| own.local.clone());
    let config = net_config(own.map(|own| (&own.config, &own.federation)), local.clone());
    let Some(probe) = probe(report, &config) else { return };
    let nameserver = own.and_then(|own| own.federation.nameservers.first().copied());
    let whose = |domain| Whose {
        domain,
        listen: None,
        nameserver,
    };
    let places = names::look(report, &probe, whose(peer)).await;
    let me = local.as_ref().map(|local| &local.domain);
    // Somebody must be there to be asked back while the stream is made.
    let voice = match own {
        Some(own) if local.is_some() => voice(report, own).await,
        _ => None,
    };
    let abroad = Abroad {
        peer,
        local: me,
        dialback: own.is_some_and(|own| own.federation.dialback.allows(peer)),
    };
    let up = ports::other(report, &probe, &abroad, &places).await;
    match (&voice, own) {
        (Some(voice), Some(own)) if up => {
            let mut aside = Report::default();
            let announced = in_words(&names::look(&mut aside, &probe, whose(&own.domain)).await);
            peer::interview(report, voice, &own.domain, peer, &announced).await;
        }
        _ if up || own.is_none() => {
            let what = format!("{peer} was not asked anything: that takes a domain of our own with a certificate");
            report.add(Finding::new(Severity::Note, Topic::Service, "not-asked", what));
        }
        _ => {}
    }
    if let Some(Voice::Own(stand)) = voice {
        stand.stop().await;
    }
}

fn probe(report: &mut Report, config: &NetConfig) -> Option<Probe> {
    // The key of dialback is that of the server or of what stands in for it; to look, a certificate must do.
    let config = NetConfig {
        dialback: DialbackPolicy::Never,
        ..config.clone()
    };
    match Probe::new(&config) {
        Ok(probe) => Some(probe),
        Err(error) => {
            let code = match error {
                StartError::Resolver(_) => "resolver",
                _ => "trust-roots",
            };
            report.add(Finding::new(
                Severity::Error,
                Topic::Configuration,
                code,
                error.to_string(),
            ));
            None
        }
    }
}

/// Somebody who can ask others: our server, or a net in its place.
async fn voice(report: &mut Report, own: &Own) -> Option<Voice> {
    match own.tenant {
        Tenant::Us => Some(Voice::Server(own.config.data_dir.clone())),
        Tenant::Other => None,
        Tenant::Nobody => {
            let config = net_config(Some((&own.config, &own.federation)), Some(own.local.clone()?));
            match Stand::start(config, own.domain.clone()).await {
                Ok(stand) => Some(Voice::Own(stand)),
                Err(StartError::Listen { address, error }) => {
                    let what = format!("nothing can listen at {address}: {error}");
                    let why = "the server does not start while another program has the port";
                    let change = format!(
                        "end the other program, or {} = another port",
                        own.config.places.of("listen")
                    );
                    let finding = Finding::new(Severity::Error, Topic::Ports, "port-taken", what);
                    report.add(finding.why(why).change(change));
                    None
                }
                Err(error) => {
                    report.add(Finding::new(
                        Severity::Error,
                        Topic::Configuration,
                        "net",
                        error.to_string(),
                    ));
                    None
                }
            }
        }
    }
}

fn first_der(pem: &[u8]) -> Option<Vec<u8>> {
    let certificates = openssl::x509::X509::stack_from_pem(pem).ok()?;
    certificates.first()?.to_der().ok()
}

fn in_words(places: &[Place]) -> String {
    let mut addresses: Vec<SocketAddr> = places.iter().map(|place| place.address).collect();
    addresses.dedup();
    match addresses.as_slice() {
        [] => "any place of ours, for DNS names none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
