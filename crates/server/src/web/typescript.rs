//! The TypeScript side of the client protocol, generated from [`super::messages`].

use std::fmt::Write as _;

use ts_rs::{Config, TS};

use super::messages::{
    ChangeMessage, ClientMessage, DeliveryState, DeltaMessage, DocumentState, ElementMessage, InboxRow, KnownWavelet,
    OpComponent, Operation, OwnSubmission, PeerDelivery, ReadBlip, RefusalReason, RequestRow, ServerMessage,
    WaveletState,
};

const HEADER: &str = "\
// The client protocol's messages: JSON text frames over one WebSocket at /socket.
// Generated from crates/server/src/web/messages.rs; do not edit. To write it anew:
//   UPDATE=1 cargo test -p billow-server types_are_fresh
";

/// The whole of `web/src/wire/messages.ts`.
#[must_use]
pub fn typescript() -> String {
    let config = Config::new();
    let mut text = HEADER.to_owned();
    declare::<ClientMessage>(&config, &mut text);
    declare::<ServerMessage>(&config, &mut text);
    declare::<KnownWavelet>(&config, &mut text);
    declare::<WaveletState>(&config, &mut text);
    declare::<DocumentState>(&config, &mut text);
    declare::<DeltaMessage>(&config, &mut text);
    declare::<OwnSubmission>(&config, &mut text);
    declare::<RefusalReason>(&config, &mut text);
    declare::<Operation>(&config, &mut text);
    declare::<OpComponent>(&config, &mut text);
    declare::<ElementMessage>(&config, &mut text);
    declare::<ChangeMessage>(&config, &mut text);
    declare::<InboxRow>(&config, &mut text);
    declare::<RequestRow>(&config, &mut text);
    declare::<PeerDelivery>(&config, &mut text);
    declare::<DeliveryState>(&config, &mut text);
    declare::<ReadBlip>(&config, &mut text);
    text
}

/// One declaration, set for people: a line for a line of comment, a line for an alternative.
fn declare<T: TS>(config: &Config, text: &mut String) {
    let declaration = T::decl(config)
        .replace("/**\n * ", "  /** ")
        .replace("\n */", " */")
        .replace("\n * ", "\n   *  ");
    let declaration = declaration
        .replace(", \n", ",\n")
        .replace("{ \n", "{\n")
        .replace("} | {", "}\n  | {");
    let declaration: Vec<String> = declaration.lines().map(indented).collect();
    let docs = T::docs()
        .unwrap_or_default()
        .replace("/**\n * ", "/** ")
        .replace("\n */", " */");
    write!(text, "\n{docs}export {}\n", declaration.join("\n")).expect("a string takes all text");
}

fn indented(line: &str) -> String {
    let member = line
        .split_once(':')
        .is_some_and(|(name, _)| name.trim_end_matches('?').chars().all(char::is_alphanumeric));
    if member { format!("  {line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn types_are_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/src/wire/messages.ts");
        let expected = super::typescript();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().expect("the file has a folder")).expect("the folder can be made");
            std::fs::write(&path, &expected).expect("the file can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "web/src/wire/messages.ts is stale; run: UPDATE=1 cargo test -p billow-server types_are_fresh"
        );
    }
}
