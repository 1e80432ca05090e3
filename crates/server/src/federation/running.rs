//! The wavelets of a server with their federation, set up from its configuration.

use std::net::SocketAddr;
use std::time::Duration;

use billow_model::Domain;
use billow_net::{Net, NetConfig, NetHandle, NetLimits, ResolverChoice, TlsRoots};
use billow_signing::{Signer, TrustRoots, Verifier};
use billow_store::Store;
use billow_wire::{Message as _, SignerId, SignerInfo};

use super::certificates::{self, Followed};
use super::trust::Trust;
use super::{Federation, FederationHandle, Setup};
use crate::clock;
use crate::config::{Config, FederationConfig};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::requests::Requests;
use crate::wavelets::{self, SigningPool, Wavelets, signing};

/// How long a wavelet that nobody uses stays loaded.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// What we call ourselves to peers that ask.
pub(crate) const DESCRIPTION: &str = concat!("Billow ", env!("CARGO_PKG_VERSION"));

/// Live wavelets, and the way to other servers if there is one.
pub struct Running {
    wavelets: Wavelets,
    federation: Option<(Federation, NetHandle)>,
    certificate: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Starts what the configuration asks for.
    pub async fn start(config: &Config, store: &Store, metrics: &Metrics) -> anyhow::Result<Self> {
        let (federation, requests) = FederationHandle::new(config.domain.clone());
        let settings = config.federation.as_ref().map(|settings| settings.policy.clone());
        let policy = Policy::load(config.domain.clone(), settings.unwrap_or_default(), store.clone()).await?;
        let asked = Requests::load(config.domain.clone(), policy.clone(), store.clone()).await?;
        let setup = |signer: Signer, roots: TrustRoots| wavelets::Setup {
            domain: config.domain.clone(),
            store: store.clone(),
            signing: SigningPool::start(signer),
            verifier: Verifier::new(roots),
            federation: federation.clone(),
            metrics: metrics.clone(),
            idle_max: IDLE_MAX,
            unopened: config
                .federation
                .as_ref()
                .map(|settings| settings.unopened)
                .unwrap_or_default(),
            policy: policy.clone(),
            requests: asked.clone(),
        };
        let settings = config.federation.as_ref();
        let Some(settings) = settings.filter(|settings| !settings.lacks_certificate()) else {
            let signer = signing::own_signer(store, &config.domain).await?;
            let wavelets = Wavelets::new(setup(signer, TrustRoots::none()));
            wavelets.rebuild_directory().await?;
            return Ok(Self {
                wavelets,
                federation: None,
                certificate: None,
            });
        };
        let signer = certificates::signer(&config.domain, settings)?;
        signing::forget_own_signer(store).await?;
        let Trust { signers, tls } = Trust::read(config)?;
        let own = signer.info().clone();
        let wavelets = Wavelets::new(setup(signer, signers));
        introduce(&wavelets, own).await?;
        wavelets.rebuild_directory().await?;
        let (net, events) = Net::start(net_config(config, settings, tls)?).await?;
        let followed = Followed {
            domain: config.domain.clone(),
            settings: settings.clone(),
            net: net.clone(),
            wavelets: wavelets.clone(),
            metrics: metrics.clone(),
        };
        let setup = Setup {
            wavelets: wavelets.clone(),
            requests,
            net: net.clone(),
            events,
            description: DESCRIPTION.to_owned(),
            name: settings.component.as_ref().map(|component| component.name.clone()),
            lives: settings.lives,
        };
        let running = Federation::start(setup).await?;
        for domain in settings.ping_on_start.clone() {
            let federation = federation.clone();
            // It ends when the federation does, or within a minute.
            tokio::spawn(async move { log_ping(&federation, &domain).await });
        }
        Ok(Self {
            wavelets,
            federation: Some((running, net)),
            certificate: Some(tokio::spawn(followed.run())),
        })
    }

    /// The wavelets.
    #[must_use]
    pub fn wavelets(&self) -> &Wavelets {
        &self.wavelets
    }

    /// Where other servers reach us.
    #[must_use]
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.federation
            .as_ref()
            .map(|(_, net)| net.listening())
            .unwrap_or_default()
    }

    /// Puts the wavelets away and takes leave of other servers.
    pub async fn stop(self) {
        if let Some(certificate) = self.certificate {
            certificate.abort();
        }
        self.wavelets.stop().await;
        if let Some((federation, net)) = self.federation {
            net.stop().await;
            federation.stop().await;
        }
    }
}

/// Pings a domain, and the log says how it went, step by step where it did not go well.
async fn log_ping(federation: &FederationHandle, domain: &Domain) {
    let Some(probe) = federation.ping(domain).await else {
        return;
    };
    let words = probe.in_words();
    if probe.pong.is_some() {
        return tracing::info!("{words}");
    }
    for step in &probe.steps {
        tracing::info!(%domain, "step {}: {}", step.step, step.words);
    }
    tracing::warn!("{words}");
}

/// Keeps our own chain with those of others: what it has signed is verified with it when it comes back from other hosts, and
/// other servers ask for it as long as there is a delta with its signature, also when we have another one by then.
pub(super) async fn introduce(wavelets: &Wavelets, own: SignerInfo) -> anyhow::Result<()> {
    let shared = wavelets.shared();
    let id = bytes::Bytes::copy_from_slice(own.id().as_bytes());
    shared.store.keep_signer(id.clone(), &own.domain, own.encode()).await?;
    let id = SignerId::from_bytes(&id);
    if !shared.know_signer(&id, clock::now()).await {
        tracing::warn!("our own certificate chain does not lead to an authority that this server trusts");
    }
    Ok(())
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("wavelets", &self.wavelets)
            .finish_non_exhaustive()
    }
}

fn net_config(config: &Config, settings: &FederationConfig, roots: TlsRoots) -> anyhow::Result<NetConfig> {
    let resolver = match settings.nameservers.as_slice() {
        [] => ResolverChoice::System,
        servers => ResolverChoice::Servers(servers.to_vec()),
    };
    let http = [Some(config.http.listen), config.http.metrics_listen];
    if let Some(component) = &settings.component {
        return Ok(NetConfig {
            component: Some(component.to_net()?),
            ..NetConfig::default()
        });
    }
    Ok(NetConfig {
        listen: vec![settings.listen],
        domains: vec![certificates::local_domain(&config.domain, settings)?],
        roots,
        resolver,
        allow_private_addresses: settings.allow_private_addresses,
        allowed_networks: settings.allowed_networks.clone(),
        own_ports: http.into_iter().flatten().map(|address| address.port()).collect(),
        dialback: settings.dialback.clone(),
        component: None,
        limits: NetLimits {
            backoff_cap: settings.retry_cap,
            ..NetLimits::default()
        },
    })
}
