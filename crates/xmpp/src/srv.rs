//! The order in which the targets of SRV records are tried (RFC 2782): by priority, and within one priority at random
//! with the chance that the weight gives.

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Lower comes first.
    pub priority: u16,
    /// The chance within one priority.
    pub weight: u16,
    /// Where the service listens.
    pub port: u16,
    /// The host, without a dot at its end; empty stands for the root, "not offered here".
    pub target: String,
    /// Whether the connection begins with TLS (XEP-0368). Both kinds are mixed by their priorities.
    pub direct_tls: bool,
}

/// Most targets that are tried.
pub const MAX_TARGETS: usize = 10;

/// Whether the domain says that it does not offer the service: a single record with the target `.`.
#[must_use]
pub fn is_refusal(records: &[Record]) -> bool {
    matches!(records, [only] if only.target.is_empty())
}

/// The records in the order to try them, at most [`MAX_TARGETS`]. `random` gives the randomness, any `u32` each call.
#[must_use]
pub fn order(mut records: Vec<Record>, mut random: impl FnMut() -> u32) -> Vec<Record> {
    records.retain(|record| !record.target.is_empty() && record.port != 0);
    // Weight 0 goes first, so that it has a small chance and not none.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len().min(MAX_TARGETS));
    while ordered.len() < MAX_TARGETS {
        let Some(first) = records.first() else { break };
        let priority = first.priority;
        let group = records.iter().take_while(|record| record.priority == priority);
        let total: u32 = group.map(|record| u32::from(record.weight)).sum();
        let draw = (u64::from(random()) * (u64::from(total) + 1)) >> 32;
        let mut sum = 0;
        let chosen = records
            .iter()
            .take_while(|record| record.priority == priority)
            .position(|record| {
                sum += u64::from(record.weight);
                sum >= draw
            })
            .expect("the last sum is the total, and the draw is at most that");
        ordered.push(records.remove(chosen));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Record {
        Record {
            priority,
            weight,
            port: 5269,
            target: target.into(),
            direct_tls: false,
        }
    }

    #[test]
    fn weights_give_the_chances_and_priorities_the_order() {
        let records = vec![
            record(20, 0, "last"),
            record(10, 0, "zero"),
            record(10, 70, "heavy"),
            record(10, 20, "light"),
        ];
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        };
        let mut firsts = std::collections::HashMap::new();
        for _ in 0..10_000 {
            let ordered = order(records.clone(), &mut random);
            assert_eq!(ordered[3].target, "last");
            *firsts.entry(ordered[0].target.clone()).or_insert(0) += 1;
        }
        assert!((7_400..8_000).contains(&firsts["heavy"]), "{firsts:?}");
        assert!((1_900..2_500).contains(&firsts["light"]), "{firsts:?}");
        assert!((20..300).contains(&firsts["zero"]), "{firsts:?}");
    }

    #[test]
    fn b_070_a_dot_refuses_and_a_flood_is_cut() {
        assert!(is_refusal(&[record(0, 0, "")]));
        assert!(!is_refusal(&[record(0, 0, ""), record(0, 0, "x")]));
        let many = (0..100).map(|n| record(n, 0, "x")).collect();
        assert_eq!(order(many, || 0).len(), MAX_TARGETS);
        assert_eq!(
            order(
                vec![
                    Record {
                        port: 0,
                        ..record(0, 0, "x")
                    },
                    record(1, 65_535, "y")
                ],
                || u32::MAX
            )
            .len(),
            1
        );
    }
}
