//! Whom this server believes, as its configuration says it: for TLS and for what is signed, the same.

use anyhow::Context as _;
use billow_net::{Pin, TlsRoots};
use billow_signing::TrustRoots;

use crate::config::Config;
use crate::keys::read;

/// The authorities of the system and of the configuration, and the domains that are pinned.
pub(crate) struct Trust {
    /// For signer chains.
    pub(crate) signers: TrustRoots,
    /// For streams.
    pub(crate) tls: TlsRoots,
}

impl Trust {
    /// Reads the files that the configuration names.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let (mut signers, mut extra_pem) = (TrustRoots::system(), Vec::new());
        for path in config.federation.iter().flat_map(|settings| &settings.trust_roots) {
            let pem = read(path)?;
            signers = signers
                .with_pem(&pem)
                .with_context(|| format!("[federation] trust_roots: {}", path.display()))?;
            extra_pem.extend(pem);
            extra_pem.push(b'\n');
        }
        let mut tls = TlsRoots {
            system: true,
            extra_pem,
            ..TlsRoots::default()
        };
        for (domain, pin) in &config.pins {
            let mut certificates_pem = Vec::new();
            for path in &pin.certificates {
                certificates_pem.extend(read(path)?);
                certificates_pem.push(b'\n');
            }
            signers = signers
                .pin(domain.clone(), &certificates_pem)
                .with_context(|| pin.place.clone())?;
            let pin = Pin {
                certificates_pem,
                fingerprints: Vec::new(),
            };
            tls.pins.insert(domain.as_str().parse()?, pin);
        }
        Ok(Self { signers, tls })
    }
}
