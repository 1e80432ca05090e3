//! The rules of each schema, as tables (operations.md §9).

use super::Schema;
use crate::id::{DocumentId, WaveletId};

/// A schema.
pub(super) struct Rules {
    /// What may stand at the top.
    pub(super) top: &'static [&'static str],
    /// Every element it knows.
    pub(super) elements: &'static [ElementRule],
}

/// What one type of element may have and hold.
pub(super) struct ElementRule {
    pub(super) kind: &'static str,
    pub(super) attributes: &'static [(&'static str, Values)],
    children: &'static [&'static str],
    pub(super) text: bool,
    /// Holds lines: begins with one, and may have what stands beside text.
    lines: bool,
}

impl ElementRule {
    pub(super) fn first_child(&self) -> Option<&'static str> {
        self.lines.then_some("line")
    }
    pub(super) fn allows_child(&self, kind: &str) -> bool {
        self.children.contains(&kind) || (self.lines && IN_LINES.contains(&kind))
    }
}

/// The values that an attribute may have.
pub(super) enum Values {
    Any,
    OneOf(&'static [&'static str]),
    /// As the reference's `Integer.parseInt` takes it, from a least value on.
    From(i64),
    /// As `Long.parseLong` takes it.
    Long,
    Double,
    BlipId,
    /// A conversational wavelet as `domain/id`.
    Conversation,
}

use Values::{Any, BlipId, Conversation, Double, From, Long, OneOf};

impl Values {
    pub(super) fn allow(&self, value: &str) -> bool {
        match self {
            Any => true,
            OneOf(values) => values.contains(&value),
            From(least) => integer(value).is_some_and(|number| (*least..=i64::from(i32::MAX)).contains(&number)),
            Long => integer(value).is_some(),
            Double => value.trim().parse::<f64>().is_ok(),
            BlipId => DocumentId::new(value).is_ok_and(|id| id.is_blip()),
            Conversation => !value.contains('!') && value.parse::<WaveletId>().is_ok_and(|id| id.is_conversational()),
        }
    }
}

/// An optional sign, then decimal digits of any script.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut number: i64 = 0;
    for c in digits.chars() {
        number = number.checked_mul(10)?.checked_sub(i64::from(decimal_digit(c)?))?;
    }
    if digits.is_empty() {
        None
    } else if negative {
        Some(number)
    } else {
        number.checked_neg()
    }
}

/// The value of a digit (Unicode category Nd). The digits of a script stand in a row, from these zeros on.
fn decimal_digit(c: char) -> Option<u32> {
    const ZEROS: [u32; 66] = [
        0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0,
        0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620,
        0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0,
        0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60,
        0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
    ];
    let code = u32::from(c);
    let zero = ZEROS[ZEROS.partition_point(|&zero| zero <= code).checked_sub(1)?];
    (code - zero < 10).then_some(code - zero)
}

/// What may be typed into a blip: no controls and no marks that turn the text around.
pub(super) fn is_blip_text(c: char) -> bool {
    !matches!(c, '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{206A}'..='\u{206F}' | '\u{E0000}'..='\u{E007F}')
}

pub(super) fn of(schema: Schema) -> Option<&'static Rules> {
    Some(match schema {
        Schema::None => return None,
        Schema::Blip => &BLIP,
        Schema::Manifest => &MANIFEST,
        Schema::Roles => &ROLES,
        Schema::Read => &READ,
        Schema::Folder => &FOLDER,
        Schema::Archive => &ARCHIVE,
        Schema::Muted => &MUTED,
        Schema::Cleared => &CLEARED,
        Schema::Presentation => &PRESENTATION,
        Schema::Seen => &SEEN,
        Schema::Gadgets => &GADGETS,
        Schema::Abuse => &ABUSE,
    })
}

type AttributeRules = &'static [(&'static str, Values)];

const fn element(kind: &'static str, attributes: AttributeRules, children: &'static [&'static str]) -> ElementRule {
    ElementRule {
        kind,
        attributes,
        children,
        text: false,
        lines: false,
    }
}

const fn with_text(kind: &'static str, attributes: AttributeRules, children: &'static [&'static str]) -> ElementRule {
    ElementRule {
        kind,
        attributes,
        children,
        text: true,
        lines: false,
    }
}

const fn with_lines(kind: &'static str, attributes: AttributeRules, children: &'static [&'static str]) -> ElementRule {
    ElementRule {
        kind,
        attributes,
        children,
        text: true,
        lines: true,
    }
}

const BOOL: Values = OneOf(&["true", "false"]);

/// What every container of lines may hold.
const IN_LINES: [&str; 9] = [
    "line",
    "image",
    "gadget",
    "eqn",
    "experimental",
    "mediasearch",
    "img",
    "reply",
    "profile",
];

const FORM: AttributeRules = &[("name", Any), ("submit", Any), ("value", Any)];
const SETTING: AttributeRules = &[("id", Any), ("live-value", Any), ("saved-value", Any)];

static MANIFEST: Rules = Rules {
    top: &["conversation"],
    elements: &[
        element(
            "conversation",
            &[
                ("anchorWavelet", Conversation),
                ("anchorManifestOffset", From(0)),
                ("anchorVersion", From(0)),
                ("anchorOffset", From(0)),
                ("anchorBlip", BlipId),
                ("sort", Any),
            ],
            &["blip"],
        ),
        element("blip", &[("id", BlipId), ("deleted", BOOL)], &["thread", "peer"]),
        element("thread", &[("id", Any), ("inline", BOOL)], &["blip"]),
        element("peer", &[("id", Any)], &[]),
    ],
};

static BLIP: Rules = Rules {
    top: &["head", "body"],
    elements: &[
        element("head", &[], &["timestamp"]),
        element("timestamp", &[], &["lmt"]),
        element("lmt", &[("t", From(0))], &[]),
        with_lines(
            "body",
            &[],
            &[
                "button",
                "check",
                "radiogroup",
                "password",
                "textarea",
                "input",
                "label",
                "radio",
                "trustreq",
                "blacklist",
                "invitation",
                "settings",
                "html",
                "translation",
                "extension_installer",
                "ext-settings",
                "gadget-settings",
                "quote",
            ],
        ),
        element(
            "line",
            &[
                ("t", OneOf(&["h1", "h2", "h3", "h4", "li"])),
                ("listyle", OneOf(&["decimal"])),
                ("a", OneOf(&["l", "r", "c", "j"])),
                ("d", OneOf(&["l", "r"])),
                ("i", From(1)),
            ],
            &[],
        ),
        element("reply", &[("id", Any)], &[]),
        element(
            "image",
            &[("attachment", Any), ("style", OneOf(&["full"]))],
            &["caption", "gadget"],
        ),
        with_text("caption", &[], &["reply"]),
        with_text("eqn", &[("format", OneOf(&["tex"]))], &[]),
        element(
            "img",
            &[("alt", Any), ("src", Any), ("height", From(0)), ("width", From(0))],
            &[],
        ),
        element(
            "gadget",
            &[
                ("url", Any),
                ("title", Any),
                ("prefs", Any),
                ("state", Any),
                ("author", Any),
                ("height", Any),
                ("width", Any),
                ("id", Any),
                ("extension", Any),
                ("ifr", Any),
                ("snippet", Any),
            ],
            &["title", "thumbnail", "category", "state", "pref"],
        ),
        element("title", &[("value", Any)], &[]),
        element("thumbnail", &[("value", Any)], &[]),
        element("category", &[("name", Any)], &[]),
        element("state", &[("name", Any), ("value", Any)], &[]),
        element("pref", &[("name", Any), ("value", Any)], &[]),
        // Forms.
        element("button", &[("name", Any)], &["caption", "events"]),
        element("events", &[], &["click"]),
        element("click", &[("time", Any), ("clicker", Any)], &[]),
        element("check", FORM, &[]),
        element("radiogroup", FORM, &[]),
        element("password", FORM, &[]),
        with_lines("textarea", FORM, &[]),
        with_text("input", &[("name", Any), ("submit", Any)], &[]),
        with_text("label", &[("for", Any)], &[]),
        element("radio", &[("name", Any), ("group", Any)], &[]),
        // Only in the body.
        with_text(
            "trustreq",
            &[("from", Any), ("numberOfWaves", Any), ("userAction", Any)],
            &["trwave"],
        ),
        with_text("trwave", &[("messageCount", Any), ("lastModified", Any)], &[]),
        element("blacklist", &[("address", Any), ("contacts", Any)], &[]),
        element(
            "invitation",
            &[("remaining", From(0)), ("title", Any), ("invitedString", Any)],
            &["invited"],
        ),
        element("invited", &[("address", Any)], &[]),
        element(
            "settings",
            &[("name", Any)],
            &["bool-setting", "radio-setting", "listbox-setting", "text-setting"],
        ),
        element("bool-setting", SETTING, &[]),
        element("radio-setting", SETTING, &[]),
        element("listbox-setting", SETTING, &[]),
        with_text("text-setting", &[("id", Any), ("saved-value", Any)], &[]),
        element("html", &[], &["data"]),
        with_text("data", &[], &[]),
        element("translation", &[], &["stanza"]),
        with_lines("stanza", &[("lang", Any), ("users", Any)], &[]),
        element(
            "extension_installer",
            &[("manifest", Any), ("img", Any), ("installed", Any)],
            &[],
        ),
        element("ext-settings", &[("manifest", Any), ("enabled", Any)], &[]),
        element("gadget-settings", &[("url", Any), ("prefs", Any)], &[]),
        with_lines("quote", &[], &[]),
        // In every container of lines.
        element("experimental", &[("url", Any)], &["namevaluepair", "part"]),
        element("namevaluepair", &[("name", Any), ("value", Any)], &[]),
        with_lines(
            "part",
            &[("id", Any)],
            &[
                "button",
                "check",
                "radiogroup",
                "password",
                "textarea",
                "input",
                "label",
                "radio",
            ],
        ),
        element(
            "mediasearch",
            &[
                ("page", Any),
                ("corpora", Any),
                ("query", Any),
                ("selected", Any),
                ("pending", Any),
                ("lang", Any),
            ],
            &["result", "customsearch"],
        ),
        element(
            "result",
            &[
                ("thumbnail", Any),
                ("thumbwidth", Any),
                ("thumbheight", Any),
                ("content", Any),
                ("url", Any),
                ("dispurl", Any),
                ("title", Any),
                ("snippet", Any),
                ("num", Any),
                ("type", Any),
                ("disphtml", Any),
            ],
            &[],
        ),
        element(
            "customsearch",
            &[
                ("name", Any),
                ("icon", Any),
                ("shortname", Any),
                ("resultrows", Any),
                ("resultcols", Any),
                ("addmethod", Any),
            ],
            &[],
        ),
        element("profile", &[("avatar-url", Any)], &["profile-field"]),
        with_text("profile-field", &[("name", Any), ("user-set", Any)], &["gadget"]),
    ],
};

static ROLES: Rules = Rules {
    top: &["assign"],
    elements: &[element(
        "assign",
        &[("address", Any), ("role", OneOf(&["FULL", "READ_ONLY"]))],
        &[],
    )],
};

static READ: Rules = Rules {
    top: &["wavelet"],
    elements: &[
        element(
            "wavelet",
            &[("i", Any), ("v", From(0))],
            &["blip", "participants", "tags", "all"],
        ),
        element("blip", &[("i", Any), ("v", From(0))], &[]),
        element("participants", &[("v", From(0))], &[]),
        element("tags", &[("v", From(0))], &[]),
        element("all", &[("v", From(0))], &[]),
    ],
};

static FOLDER: Rules = Rules {
    top: &["folder"],
    elements: &[element("folder", &[("i", From(i32::MIN as i64))], &[])],
};

static ARCHIVE: Rules = Rules {
    top: &["archive"],
    elements: &[element("archive", &[("i", Any), ("v", From(0))], &[])],
};

static MUTED: Rules = Rules {
    top: &["muted"],
    elements: &[element("muted", &[("muted", BOOL)], &[])],
};

static CLEARED: Rules = Rules {
    top: &["cleared"],
    elements: &[element("cleared", &[("cleared", BOOL)], &[])],
};

static PRESENTATION: Rules = Rules {
    top: &["conversation"],
    elements: &[
        element("conversation", &[("i", Any)], &["thread"]),
        element("thread", &[("i", Any), ("state", Any)], &[]),
    ],
};

static SEEN: Rules = Rules {
    top: &["seen", "notified", "notification"],
    elements: &[
        element("seen", &[("i", Any), ("signature", Any)], &[]),
        element("notified", &[("i", Any), ("v", Any)], &[]),
        element("notification", &[("pending", Any)], &[]),
    ],
};

static GADGETS: Rules = Rules {
    top: &["gadget"],
    elements: &[
        element("gadget", &[("i", Any), ("p", Any)], &["state"]),
        element("state", &[("name", Any), ("value", Any)], &[]),
    ],
};

static ABUSE: Rules = Rules {
    top: &["wanted"],
    elements: &[element(
        "wanted",
        &[
            ("wavelet", Conversation),
            ("certainty", Double),
            ("timestamp", Long),
            ("agent", Any),
            ("comment", Any),
            ("ignored", BOOL),
            ("adder", Any),
            ("wanted", BOOL),
        ],
        &[],
    )],
};
