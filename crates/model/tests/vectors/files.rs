//! Finding and reading the vector files.

use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;

fn directory() -> PathBuf {
    let directory = std::env::var_os("BILLOW_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    assert!(
        directory.is_dir(),
        "no vectors at {}: set BILLOW_VECTORS to their directory",
        directory.display()
    );
    directory
}

/// The names of all files there.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .expect("the directory can be read")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The cases of one file, and what came of them.
pub(crate) struct Report {
    file: &'static str,
    lines: Vec<Value>,
    run: usize,
    failures: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Reads a file, or fails the test.
    pub(crate) fn open(file: &'static str) -> Self {
        let path = directory().join(file);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut text = String::new();
        if file.ends_with(".gz") {
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .expect("gzip of UTF-8");
        } else {
            text = String::from_utf8(bytes).expect("UTF-8");
        }
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a case a line"))
            .collect();
        assert!(!lines.is_empty(), "{file} has no cases");
        Self {
            file,
            lines,
            run: 0,
            failures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// All cases in order.
    pub(crate) fn cases(&self) -> Vec<Value> {
        self.lines.clone()
    }

    /// Counts a case; the error, if any, is what went wrong.
    pub(crate) fn case(&mut self, id: &str, outcome: Result<(), String>) {
        self.run += 1;
        if let Err(error) = outcome {
            let mut error = format!("{} {id}: {error}", self.file);
            error.truncate(error.char_indices().nth(1500).map_or(error.len(), |(at, _)| at));
            self.failures.push(error);
        }
    }

    /// Something the printed line should say.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints the line of this file; the failures.
    pub(crate) fn finish(self) -> Vec<String> {
        let Self {
            file,
            run,
            failures,
            notes,
            ..
        } = self;
        println!(
            "{file:<30} {run:>5} run {:>5} passed  {}",
            run - failures.len(),
            notes.join("; ")
        );
        failures
    }
}

/// `Ok` if equal, else both sides.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}\n  expected {expected:?}\n  got      {got:?}"))
    }
}
