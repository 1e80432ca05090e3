//! The small tables that lead to everything else: looked through whole when the store is opened.
//!
//! What can be made anew is: sessions end, invitations are void, signers are asked for again, submissions under way are sent
//! again by those who made them, an index is built from its table, and who is where is read out of the wavelets
//! ([`crate::Store::is_to_be_rebuilt`]). Of a wavelet's name, of an account, of what the administrator has decided about other
//! domains, of who must not be shown a stranger's wave, and of the server's own values there is no second copy: where one of
//! those is damaged, the store is not opened.

use rusqlite::Connection;

use crate::error::{OpenError, StoreError};

/// A table and the columns that its sums are of.
struct Table {
    name: &'static str,
    columns: &'static str,
    damaged: Damaged,
}

enum Damaged {
    /// Nothing can be done here.
    Refuse,
    /// The row goes.
    Remove,
    /// The row goes, and is made anew from the wavelet.
    Rebuild,
}

const TABLES: &[Table] = &[
    table("meta", "key, value", Damaged::Refuse),
    table("wavelets", "id, name, wave", Damaged::Refuse),
    table("accounts", "address, password, created", Damaged::Refuse),
    table(
        "sessions",
        "id, token_hash, address, created, last_seen, label",
        Damaged::Remove,
    ),
    table(
        "invitations",
        "code_hash, created, expires, uses, label",
        Damaged::Remove,
    ),
    table("signers", "id, domain, info", Damaged::Remove),
    table(
        "outgoing",
        "wavelet, session, sequence, author, signed",
        Damaged::Remove,
    ),
    table("participants", "address, wavelet", Damaged::Rebuild),
    table("cursors", "wavelet, peer, version, until", Damaged::Rebuild),
    table("decisions", "pattern, verdict, since", Damaged::Refuse),
    table("undecided", "domain, way, since", Damaged::Remove),
    table("known_domains", "domain, since", Damaged::Remove),
    table("requests", "address, wavelet, inviter, since, state", Damaged::Refuse),
    table("blocks", "address, domain", Damaged::Remove),
];

const fn table(name: &'static str, columns: &'static str, damaged: Damaged) -> Table {
    Table { name, columns, damaged }
}

/// Looks through all of it and mends what can be mended.
pub(crate) fn check(connection: &Connection) -> Result<(), OpenError> {
    let refuse = |what: String| OpenError::Damaged {
        path: connection.path().unwrap_or_default().into(),
        what,
    };
    for table in TABLES {
        let Table { name, columns, damaged } = table;
        check_indexes(connection, name).map_err(|error| refuse(format!("the table {name}: {error}")))?;
        let bad = bad_rows(connection, table).map_err(|error| refuse(format!("the table {name}: {error}")))?;
        if bad == 0 {
            continue;
        }
        let what = format!("{bad} rows of the table {name} are not as they were written");
        if matches!(damaged, Damaged::Refuse) {
            return Err(refuse(what));
        }
        tracing::error!("ALARM: {what}; they are removed");
        connection.execute(&format!("DELETE FROM {name} WHERE sum IS NOT row_sum({columns})"), [])?;
        if matches!(damaged, Damaged::Rebuild) {
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, x'01')", [REBUILD])?;
        }
    }
    Ok(())
}

/// The key of the mark that says that rows of wavelets are to be made anew.
pub(crate) const REBUILD: &str = "store.rebuild";

/// What is wrong in these tables, in words; nothing is mended.
pub(crate) fn findings(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for table in TABLES {
        let structure = integrity(connection, table.name)?;
        found.extend(
            structure
                .into_iter()
                .map(|what| format!("the table {}: {what}", table.name)),
        );
        let bad = bad_rows(connection, table)?;
        if bad > 0 {
            found.push(format!(
                "{bad} rows of the table {} are not as they were written",
                table.name
            ));
        }
    }
    Ok(found)
}

fn bad_rows(connection: &Connection, Table { name, columns, .. }: &Table) -> Result<i64, rusqlite::Error> {
    let sql = format!("SELECT count(*) FROM {name} NOT INDEXED WHERE sum IS NOT row_sum({columns})");
    connection.query_row(&sql, [], |row| row.get(0))
}

/// An index that does not fit its table is built anew, if the table itself is whole.
fn check_indexes(connection: &Connection, table: &str) -> Result<(), StoreError> {
    let faults = integrity(connection, table)?;
    if faults.is_empty() {
        return Ok(());
    }
    if faults.iter().all(|fault| fault.contains(" index ")) {
        tracing::error!(
            "ALARM: the indexes of {table} do not fit it and are built anew: {}",
            faults.join("; ")
        );
        connection.execute_batch(&format!("REINDEX {table}"))?;
        if integrity(connection, table)?.is_empty() {
            return Ok(());
        }
    }
    Err(StoreError::Damaged(faults.join("; ")))
}

/// SQLite's own words for what is wrong with the structure of a table; none if it is good.
pub(crate) fn integrity(connection: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check('{table}')"))?;
    let lines = statement
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}
