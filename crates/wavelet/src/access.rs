//! Who may write to a wavelet and which part of its history a domain may read.

use std::collections::BTreeMap;

use billow_model::{Domain, ParticipantId, Version, WaveletOp, planted};

/// Whether this author may write to a wavelet with these participants: a participant itself, or one of a domain whose
/// shared address `@domain` takes part. The shared address is never an author (hardening.md B-112).
#[must_use]
pub fn may_write(participants: &[ParticipantId], author: &ParticipantId) -> bool {
    !author.name().is_empty()
        && participants
            .iter()
            .any(|one| one == author || (one.name().is_empty() && one.domain() == author.domain()))
}

/// Whether this user may read a wavelet with these participants. The same rule as for writing.
#[must_use]
pub fn may_read(participants: &[ParticipantId], user: &ParticipantId) -> bool {
    may_write(participants, user)
}

/// Up to where each domain may read the history. A domain with a participant reads all of it from version 0, whenever it
/// joined; one whose last participant was removed reads up to and including the removal, until it joins again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readers {
    /// `None`: takes part now. `Some`: the version after the delta that removed it.
    domains: BTreeMap<Domain, Option<Version>>,
}

impl Readers {
    /// Takes note of a delta: the operations as applied, the participants after it, the version after it.
    pub(crate) fn follow(&mut self, ops: &[WaveletOp], participants: &[ParticipantId], resulting: Version) {
        for op in ops {
            let (WaveletOp::AddParticipant(who) | WaveletOp::RemoveParticipant(who)) = op else {
                continue;
            };
            let domain = who.domain();
            let present = participants.iter().any(|one| one.domain() == domain);
            self.domains.insert(
                domain,
                if present || planted::is("who is removed still reads") {
                    None
                } else {
                    Some(resulting)
                },
            );
        }
    }

    pub(crate) fn set(&mut self, domain: Domain, until: Option<Version>) {
        self.domains.insert(domain, until);
    }

    /// Whether the domain takes part now.
    #[must_use]
    pub fn takes_part(&self, domain: &Domain) -> bool {
        self.domains.get(domain) == Some(&None)
    }

    /// The version up to which this domain may read, given the newest there is; `None` for a stranger.
    #[must_use]
    pub fn readable(&self, domain: &Domain, newest: Version) -> Option<Version> {
        self.domains
            .get(domain)
            .map(|until| until.map_or(newest, |until| until.min(newest)))
    }

    /// Whether this domain may read the deltas of `[from, to)`.
    #[must_use]
    pub fn may_read(&self, domain: &Domain, from: Version, to: Version) -> bool {
        from <= to
            && self
                .domains
                .get(domain)
                .is_some_and(|until| until.is_none_or(|until| to <= until))
    }

    /// The version up to which one of these domains, who ask for `[from, to)`, may know the wavelet, given the newest there
    /// is; `None` if none of them may read what they ask for.
    #[must_use]
    pub fn reach<'a>(
        &self,
        domains: impl IntoIterator<Item = &'a Domain>,
        (from, to): (Version, Version),
        newest: Version,
    ) -> Option<Version> {
        let may_read = domains.into_iter().filter(|domain| self.may_read(domain, from, to));
        may_read.filter_map(|domain| self.readable(domain, newest)).max()
    }

    /// All domains that take part or took part, with the version after their removal.
    pub fn domains(&self) -> impl Iterator<Item = (&Domain, Option<Version>)> {
        self.domains.iter().map(|(domain, until)| (domain, *until))
    }

    /// The domains to be told of a delta that results in this version: those that take part after it and those it removed
    /// (protocol.md §6.2). Right for a delta that was just followed.
    pub(crate) fn told_of(&self, resulting: Version) -> impl Iterator<Item = &Domain> {
        self.domains
            .iter()
            .filter(move |(_, until)| {
                until.is_none_or(|until| until == resulting && !planted::is("who is removed is not told"))
            })
            .map(|(domain, _)| domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_left_learns_nothing_of_what_came_after() {
        let domain = |text: &str| text.parse::<Domain>().unwrap();
        let (acme, beta, evil) = (domain("acme.lab"), domain("beta.lab"), domain("evil.lab"));
        let [zero, three, five, nine] = [0, 3, 5, 9].map(Version::new);
        let mut readers = Readers::default();
        readers.set(acme.clone(), None);
        readers.set(beta.clone(), Some(five));
        assert_eq!(readers.reach([&acme], (zero, nine), nine), Some(nine));
        assert_eq!(readers.reach([&beta], (zero, three), nine), Some(five));
        assert_eq!(readers.reach([&beta], (zero, three), three), Some(three));
        assert_eq!(readers.reach([&beta], (zero, nine), nine), None);
        assert_eq!(readers.reach([&evil], (zero, zero), nine), None);
        assert_eq!(readers.reach([&evil, &beta, &acme], (zero, three), nine), Some(nine));
    }
}
