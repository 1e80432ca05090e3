//! Does what the machine of a wavelet hosted here wants done.

use std::collections::BTreeSet;

use billow_model::{Domain, WaveletOp};
use billow_store::WaveletWrite;
use billow_wavelet::{HostedOutput, HostedWavelet, Record, Written};

use super::keeper::{Keeper, kind};
use super::stored;

/// Asks the machine until it wants nothing more. What is to be stored is stored in one write; whether there is something.
pub(super) async fn drive(machine: &mut HostedWavelet, keeper: &mut Keeper) -> bool {
    let mut write = WaveletWrite::new(keeper.name.clone());
    let mut written = Written::default();
    while let Some(output) = machine.poll() {
        match output {
            HostedOutput::Persist(record) => {
                stored::add_record(&mut write, &record, None);
                keeper.shared.requests.note(&mut write, &record);
                write.reached.extend(
                    new_domains(&record, &keeper.shared.domain)
                        .into_iter()
                        .map(|domain| (domain, record.applied_at())),
                );
                written.records_upto = Some(record.resulting());
            }
            HostedOutput::PersistSeal(seal) => {
                write.seals.push(stored::stored_seal(&seal));
                written.seals_upto = Some(seal.resulting.version);
            }
            HostedOutput::Show(record) => keeper.show(machine.wavelet(), &record),
            HostedOutput::Answer { ticket, outcome } => keeper.answer(ticket, outcome),
            HostedOutput::Sign(delta) => keeper.sign(delta),
            HostedOutput::Sealed { seal, domains } => {
                keeper
                    .shared
                    .federation
                    .sealed(&keeper.name, &seal, &domains, machine.readers())
            }
            HostedOutput::Digest { at, digest, domains } => {
                keeper.shared.federation.digest(&keeper.name, at, digest, domains);
            }
            HostedOutput::AnswerRemote { ticket, outcome } => {
                if let Err(refusal) = &outcome {
                    keeper.shared.metrics.count("refused", kind(refusal));
                }
                if let Some(reply) = keeper.remote_answers.remove(&ticket) {
                    // The peer may have given up waiting.
                    let _ = reply.send(outcome);
                }
            }
        }
    }
    keeper.tell_inbox();
    let writes = written.records_upto.is_some() || written.seals_upto.is_some();
    if writes {
        keeper.store(write, written).await;
    }
    writes
}

/// Other domains that the delta adds somebody of: from there on they are told of everything.
fn new_domains(record: &Record, ours: &Domain) -> BTreeSet<Domain> {
    let added = record.delta.ops.iter().filter_map(|op| match op {
        WaveletOp::AddParticipant(who) => Some(who.domain()),
        WaveletOp::RemoveParticipant(_) | WaveletOp::NoOp | WaveletOp::MutateDocument { .. } => None,
    });
    added.filter(|domain| domain != ours).collect()
}
