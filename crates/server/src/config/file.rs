//! A TOML file read with positions: each problem names the file, the line, what was expected and what came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of a configuration file and the problems found in it so far.
pub(super) struct Source<'a> {
    /// As the user wrote it on the command line.
    path: &'a Path,
    text: &'a str,
    problems: Vec<String>,
    places: Places,
}

/// Where keys stand that name files: what is wrong with a file is told with the line that names it.
#[derive(Debug, Clone, Default)]
pub struct Places {
    file: PathBuf,
    lines: BTreeMap<&'static str, usize>,
}

impl Places {
    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// `billow.toml:7: certificate`, or the key alone where no file says it.
    pub(crate) fn of(&self, key: &str) -> String {
        match self.lines.get(key) {
            Some(line) => format!("{}:{line}: {key}", self.file.display()),
            None => key.to_owned(),
        }
    }
}

/// A table of the file. Reading a key gives its value, or `None` where it is absent or wrong (then a problem is noted).
pub(super) struct Section<'a> {
    name: &'static str,
    keys: &'static [&'static str],
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            path,
            text,
            problems: Vec::new(),
            places: Places {
                file: path.to_owned(),
                lines: BTreeMap::new(),
            },
        }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// Where the keys stand that were read as paths.
    pub(super) fn places(&self) -> Places {
        self.places.clone()
    }

    /// Says what is wrong at a byte of the file.
    fn problem(&mut self, at: usize, text: &str) {
        let line = self.line(at);
        self.problems.push(format!("{}:{line}: {text}", self.path.display()));
    }

    /// A problem of the TOML itself.
    pub(super) fn syntax(&mut self, error: &toml::de::Error) {
        let at = error.span().map_or(0, |span| span.start);
        self.problem(
            at,
            &format!("this is not TOML: {}", error.message().replace('\n', ", ")),
        );
    }

    /// A problem of a section.
    pub(super) fn problem_of_place(&mut self, place: &str, text: &str) {
        self.problems.push(format!("{place} {text}"));
    }

    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }

    /// The top of the file, which may hold these keys (the sections among them) and no others.
    pub(super) fn top<'t>(&mut self, table: &'t DeTable<'t>, keys: &'static [&'static str]) -> Section<'t> {
        let section = Section {
            name: "",
            keys,
            table: Some(table),
        };
        self.note_unknown(&section);
        section
    }

    fn note_unknown(&mut self, section: &Section<'_>) {
        for key in section.table.into_iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if section.keys.contains(&name) {
                continue;
            }
            let place = if section.name.is_empty() {
                String::new()
            } else {
                format!(" in [{}]", section.name)
            };
            let advice = match nearest(name, section.keys) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected one of {}", section.keys.join(", ")),
            };
            self.problem(key.span().start, &format!("unknown key \"{name}\"{place}, {advice}"));
        }
    }
}

impl<'a> Section<'a> {
    /// A section of the file; absent is as good as empty.
    pub(super) fn section(&self, source: &mut Source<'_>, name: &'static str, keys: &'static [&'static str]) -> Self {
        self.subsection(source, name, name, keys)
    }

    /// A section within a section: its key there, and its whole name.
    pub(super) fn subsection(
        &self,
        source: &mut Source<'_>,
        key: &'static str,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Self {
        assert!(
            self.keys.contains(&key),
            "a section's name is a key of the table it is in"
        );
        let table = self.value(key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                source.problem(
                    value.span().start,
                    &format!("expected a section [{name}], got {}", shown(value)),
                );
            }
            table
        });
        let section = Section { name, keys, table };
        source.note_unknown(&section);
        section
    }

    /// A section inside this one, with the name that messages give it.
    pub(super) fn inner(
        &self,
        source: &mut Source<'_>,
        key: &'static str,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Self {
        // What is wrong with it is told under its whole name.
        let table = self.read(source, key, &format!("a section [{name}]"), DeValue::as_table);
        let section = Section { name, keys, table };
        source.note_unknown(&section);
        section
    }

    /// A problem of the section as a whole, told at one of its keys.
    pub(super) fn problem_at(&self, source: &mut Source<'_>, key: &str, text: &str) {
        let at = self.value(key).map_or(0, |value| value.span().start);
        source.problem(at, text);
    }

    /// The sections of a section, one for each name, with where each stands.
    pub(super) fn tables<T: FromStr>(
        &self,
        source: &mut Source<'_>,
        name: &'static str,
        keys: &'static [&'static str],
        expected: &str,
    ) -> Vec<(T, String, Self)> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let Some(tables) = value.get_ref().as_table() else {
            let text = format!("expected a section [{name}.\"…\"], got {}", shown(value));
            source.problem(value.span().start, &text);
            return Vec::new();
        };
        let mut found = Vec::new();
        for (key, value) in tables {
            let at = key.span().start;
            let (Ok(named), Some(table)) = (key.get_ref().parse(), value.get_ref().as_table()) else {
                source.problem(at, &format!("{name}: expected {expected}, got \"{}\"", key.get_ref()));
                continue;
            };
            let place = format!(
                "{}:{}: [{name}.\"{}\"]",
                source.path.display(),
                source.line(at),
                key.get_ref()
            );
            let section = Section {
                name,
                keys,
                table: Some(table),
            };
            source.note_unknown(&section);
            found.push((named, place, section));
        }
        found
    }

    /// Whether the section holds this key, good or bad.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn read<T>(
        &self,
        source: &mut Source<'_>,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        assert!(self.keys.contains(&key), "{key} is a key of the section");
        let value = self.value(key)?;
        let parsed = parse(value.get_ref());
        if parsed.is_none() {
            source.problem(
                value.span().start,
                &format!("{key}: expected {expected}, got {}", shown(value)),
            );
        }
        parsed
    }

    /// A text that parses as `T`.
    pub(super) fn parsed<T: FromStr>(&self, source: &mut Source<'_>, key: &'static str, expected: &str) -> Option<T> {
        self.read(source, key, expected, |value| value.as_str()?.parse().ok())
    }

    /// A text that a function accepts.
    pub(super) fn text<T>(
        &self,
        source: &mut Source<'_>,
        key: &'static str,
        expected: &str,
        accept: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.read(source, key, expected, |value| accept(value.as_str()?))
    }

    /// An address to listen on.
    pub(super) fn address(&self, source: &mut Source<'_>, key: &'static str, example: &str) -> Option<SocketAddr> {
        // The web side has addresses of the same names; those of the federation are told.
        if self.name == "federation" {
            self.note_place(source, key);
        }
        self.parsed(source, key, &format!("an address and port like \"{example}\""))
    }

    /// A list of addresses.
    pub(super) fn addresses(
        &self,
        source: &mut Source<'_>,
        key: &'static str,
        example: &str,
    ) -> Option<Vec<SocketAddr>> {
        self.read(
            source,
            key,
            &format!("a list of addresses and ports like [\"{example}\"]"),
            |value| {
                value
                    .as_array()?
                    .iter()
                    .map(|item| item.get_ref().as_str()?.parse().ok())
                    .collect()
            },
        )
    }

    /// A list of texts that a function accepts.
    pub(super) fn texts<T>(
        &self,
        source: &mut Source<'_>,
        key: &'static str,
        expected: &str,
        accept: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.read(source, key, expected, |value| {
            let items = value.as_array()?.iter();
            items.map(|item| accept(item.get_ref().as_str()?)).collect()
        })
    }

    /// A path; a relative one starts at the file's folder.
    pub(super) fn path(&self, source: &mut Source<'_>, key: &'static str) -> Option<PathBuf> {
        let folder = source.folder();
        self.note_place(source, key);
        self.read(source, key, "a path", |value| {
            Some(folder.join(not_empty(value.as_str()?)?))
        })
    }

    /// A list of paths.
    pub(super) fn paths(&self, source: &mut Source<'_>, key: &'static str) -> Option<Vec<PathBuf>> {
        let folder = source.folder();
        self.note_place(source, key);
        self.read(source, key, "a list of paths", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| Some(folder.join(not_empty(item.get_ref().as_str()?)?)))
                .collect()
        })
    }

    fn note_place(&self, source: &mut Source<'_>, key: &'static str) {
        if let Some(value) = self.value(key) {
            let line = source.line(value.span().start);
            source.places.lines.insert(key, line);
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, source: &mut Source<'_>, key: &'static str) -> Option<bool> {
        self.read(source, key, "true or false", DeValue::as_bool)
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, source: &mut Source<'_>, key: &'static str, from: u64, to: u64) -> Option<u64> {
        self.read(source, key, &format!("a whole number from {from} to {to}"), |value| {
            let number = value.as_integer()?;
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
            (from..=to).contains(&number).then_some(number)
        })
    }
}

impl Source<'_> {
    fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }
}

fn not_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A value as a message shows it.
fn shown(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// The key that was probably meant.
fn nearest<'k>(given: &str, keys: &[&'k str]) -> Option<&'k str> {
    let near = keys.iter().map(|key| (distance(given, key), *key)).min()?;
    (near.0 <= (given.chars().count() / 3).max(2)).then_some(near.1)
}

/// How many letters to insert, delete or replace to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
