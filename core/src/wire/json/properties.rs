//! Properties of reading and writing JSON: the short ways give what the long ones would.

use super::{DEPTH_MAX, Field, INTEGER_MAX, Object, Payload};
use alloc::format;
use alloc::string::{String, ToString};
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

proptest! {
    #[test]
    fn a_whole_number_is_read_as_a_parser_would(value in values()) {
        let parsed = serde_json::from_str::<u64>(&value).ok().filter(|number| *number <= INTEGER_MAX);
        prop_assert_eq!(u64::read(&value), parsed);
    }

    #[test]
    fn a_number_is_written_as_any_other_value(number in any::<u64>()) {
        let written = Object::new().number("n", number).finish();
        prop_assert_eq!(written, Object::new().raw("n", number).finish());
    }

    #[test]
    fn a_payload_is_sound_up_to_its_depth_however_long_it_is(depth in 1..600usize, text in "[a-z{\\[]{0,600}") {
        let value = format!("{}\"{text}\"{}", "[".repeat(depth), "]".repeat(depth));
        prop_assert_eq!(Payload::read(&value).is_some(), depth <= DEPTH_MAX);
    }
}
