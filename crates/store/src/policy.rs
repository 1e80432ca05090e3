//! What the administrator has decided about other domains, and which of them wait for a decision.

use billow_model::{Domain, Timestamp};
use rusqlite::params;

use crate::Store;
use crate::error::StoreError;
use crate::history::readable;

/// A decision; what its words mean is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDecision {
    /// Which domains.
    pub pattern: String,
    /// What was decided.
    pub verdict: String,
    /// When.
    pub since: Timestamp,
}

/// A domain that waits for a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// The domain.
    pub domain: Domain,
    /// Whether somebody here wants to reach it; otherwise it has spoken to us.
    pub wanted: bool,
    /// Since when.
    pub since: Timestamp,
}

impl Store {
    /// All decisions.
    pub async fn decisions(&self) -> Result<Vec<StoredDecision>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT pattern, verdict, since FROM decisions ORDER BY pattern")?;
            let rows = statement.query_map([], |row| {
                Ok(StoredDecision {
                    pattern: row.get(0)?,
                    verdict: row.get(1)?,
                    since: Timestamp(row.get(2)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Keeps a decision in place of an earlier one about the same pattern. These domains wait no longer.
    pub async fn keep_decision(&self, decision: StoredDecision, decided: Vec<Domain>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let mut statement = connection
                .prepare_cached("INSERT OR REPLACE INTO decisions (pattern, verdict, since) VALUES (?, ?, ?)")?;
            statement.execute(params![decision.pattern, decision.verdict, decision.since.0])?;
            for domain in &decided {
                let mut statement = connection.prepare_cached("DELETE FROM undecided WHERE domain = ?")?;
                statement.execute([domain.as_str()])?;
            }
            Ok(())
        })
        .await
    }

    /// Takes a decision back; whether there was one.
    pub async fn forget_decision(&self, pattern: &str) -> Result<bool, StoreError> {
        let pattern = pattern.to_owned();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM decisions WHERE pattern = ?")?;
            Ok(statement.execute([&pattern])? > 0)
        })
        .await
    }

    /// The domains that wait for a decision.
    pub async fn undecided(&self) -> Result<Vec<Undecided>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT domain, way, since FROM undecided ORDER BY domain")?;
            let mut rows = statement.query([])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let Some(domain) = readable(row, 0)? else { continue };
                out.push(Undecided {
                    domain,
                    wanted: row.get::<_, String>(1)? == "out",
                    since: Timestamp(row.get(2)?),
                });
            }
            Ok(out)
        })
        .await
    }

    /// A domain waits for a decision.
    pub async fn keep_undecided(&self, one: Undecided) -> Result<(), StoreError> {
        self.write(move |connection| {
            let mut statement =
                connection.prepare_cached("INSERT OR REPLACE INTO undecided (domain, way, since) VALUES (?, ?, ?)")?;
            let way = if one.wanted { "out" } else { "in" };
            statement.execute(params![one.domain.as_str(), way, one.since.0])?;
            Ok(())
        })
        .await
    }
}
