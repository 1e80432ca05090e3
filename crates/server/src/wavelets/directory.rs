//! Makes anew what is written down beside the wavelets: who is on which, and which domains are told of it.

use billow_model::{Domain, ParticipantId, WaveletName};
use billow_store::StoreError;

use super::{Wavelets, machine};

impl Wavelets {
    /// If rows of that were damaged, and so are gone: reads every wavelet and puts its rows right. A wavelet that does not
    /// load keeps what is left. To be done before anything is shown or delivered.
    pub(crate) async fn rebuild_directory(&self) -> Result<(), StoreError> {
        let store = &self.shared.store;
        if !store.is_to_be_rebuilt().await? {
            return Ok(());
        }
        let names = store.all_wavelets().await?;
        tracing::warn!(wavelets = names.len(), "who is where is read out of the wavelets");
        for name in names {
            match self.read_directory(&name).await {
                Ok((people, domains)) => store.rebuild(&name, people, domains).await?,
                Err(error) => tracing::error!("who is on {name} cannot be read out of it: {error}"),
            }
        }
        store.rebuilt().await
    }

    /// Who is on a wavelet, and which other domains we tell of it.
    async fn read_directory(&self, name: &WaveletName) -> Result<(Vec<ParticipantId>, Vec<Domain>), StoreError> {
        let machine = machine::load(name, &self.shared).await?.machine;
        let people = machine.wavelet().participants().to_vec();
        if !self.hosts(name) {
            return Ok((people, Vec::new()));
        }
        let domains = machine.readers().domains().map(|(domain, _)| domain);
        let others = domains.filter(|domain| **domain != self.shared.domain);
        Ok((people, others.cloned().collect()))
    }
}
