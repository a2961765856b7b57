//! Properties of reading and writing JSON: the short ways give what the long ones would.

use super::{DEPTH_MAX, Field, Fields, INTEGER_MAX, Object, ObjectPayload, Payload, Value, is_sound};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;

/// Numbers of JSON, whole or not, and other values.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        (0..=2 * INTEGER_MAX).prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        Just("null".to_string()),
        Just("\"7\"".to_string()),
    ]
}

/// Values without anything special.
fn plain_values() -> impl Strategy<Value = String> {
    let leaf = prop_oneof!["true|false|null", "0|[1-9][0-9]{0,3}", r#""[a-cé{}\[\]:, ]{0,40}""#];
    leaf.prop_recursive(3, 9, 3, |value| {
        let list = prop::collection::vec(value.clone(), 0..4);
        prop_oneof![list.prop_map(|items| format!("[{}]", items.join(", "))), objects(value, ",", ":")]
    })
}

/// Values with something special in them, and what is nearly one.
fn odd_values() -> impl Strategy<Value = String> {
    prop_oneof![
        values(),
        "0?[0-9]{1,2}[.e]?",
        "tru|fals|nul|nulll| null ",
        r#""(a|\\\\|\\"|\\n|\\u00e9|\\ud83d\\ude00|\\udc00|\\x){0,4}""#,
        "\"[a\t\u{1}]?\"",
        "[\\[{](0|\"a\"[:,]0?)?,?[\\]}]",
    ]
}

/// Objects of such values, with this between and within their fields.
fn objects(
    values: impl Strategy<Value = String>,
    comma: &'static str,
    colon: &'static str,
) -> impl Strategy<Value = String> {
    prop::collection::vec(("[a-cé]{0,4}", values), 0..4).prop_map(move |fields| {
        let fields: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("\"{name}\"{colon}{value}")).collect();
        format!("{{{}}}", fields.join(comma))
    })
}

/// Objects as they may be written, most of them with one thing that is special or wrong.
fn messages() -> impl Strategy<Value = String> {
    let [plain, spaced, odd] =
        [(",", ":"), (", ", ": "), (" ,", " :")].map(|(comma, colon)| objects(plain_values(), comma, colon));
    let special = odd_values().prop_map(|value| format!("{{\"a\":{value}}}"));
    let piece = "[-+.eE\\\\0-9a{}\\[\\]:,\" \n\t\u{1}]{1,2}";
    let broken = (objects(plain_values(), ",", ":"), piece, any::<prop::sample::Index>());
    let broken = broken.prop_map(|(mut text, piece, at)| {
        let at = at.index(text.len() + 1);
        text.insert_str((0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0), &piece);
        text
    });
    prop_oneof![1 => plain, 1 => spaced, 1 => odd, 8 => special, 4 => broken]
}

proptest! {
    #[test]
    fn fields_are_read_as_a_parser_would(text in messages()) {
        let parsed = serde_json::from_str::<Fields<'_>>(&text);
        let read = Fields::parse(&text);
        prop_assert_eq!(read.is_ok(), parsed.is_ok());
        if let (Ok(read), Ok(parsed)) = (read, parsed) {
            prop_assert!(read.iter().eq(parsed.iter()), "{read:?}");
            for (_, value) in read.0.iter().filter(|(_, value)| value.is_plain) {
                prop_assert!(is_sound(value.raw) && !value.raw.contains('\\'), "{value:?}");
                let [known, unknown] = [*value, Value::new(value.raw)].map(ObjectPayload::read);
                prop_assert_eq!(known.is_some(), unknown.is_some());
                if let Some((known, unknown)) = known.zip(unknown) {
                    prop_assert!(known.fields.iter().eq(unknown.fields.iter()), "{known:?}");
                }
            }
        }
    }

    #[test]
    fn a_field_is_sound_up_to_its_depth(depth in DEPTH_MAX - 3..DEPTH_MAX + 4) {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let payload = Fields::parse(&text).unwrap().required::<Payload<'_>>("a");
        prop_assert_eq!(payload.is_ok(), depth <= DEPTH_MAX);
    }

    #[test]
    fn a_whole_number_is_read_as_a_parser_would(value in values()) {
        let parsed = serde_json::from_str::<u64>(&value).ok().filter(|number| *number <= INTEGER_MAX);
        prop_assert_eq!(u64::read(Value::new(&value)), parsed);
    }

    #[test]
    fn a_string_is_written_as_any_other_value(before in "[a-z]{0,20}", text in "[ -~\u{0}-\u{2f}é]{0,20}") {
        for text in [[&before[..], &text].concat(), before] {
            let written = Object::new().number("n", 1).str("s", &text).finish();
            prop_assert_eq!(written, Object::new().raw("n", 1).json("s", &text).finish());
        }
    }

    #[test]
    fn a_number_is_written_as_any_other_value(number in prop_oneof![0..20u64, any::<u64>()]) {
        let written = Object::new().number("n", number).numbers("all", [number, 1, number]).finish();
        let all = format!("[{number},1,{number}]");
        prop_assert_eq!(written, Object::new().raw("n", number).raw("all", all).finish());
    }

    #[test]
    fn a_payload_is_sound_up_to_its_depth_however_long_it_is(depth in 1..600usize, text in "[a-z{\\[]{0,600}") {
        let value = format!("{}\"{text}\"{}", "[".repeat(depth), "]".repeat(depth));
        prop_assert_eq!(Payload::read(Value::new(&value)).is_some(), depth <= DEPTH_MAX);
    }
}
