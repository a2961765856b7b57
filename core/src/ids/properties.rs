//! Properties of names.

use super::{Epoch, NAME_BYTES, RunId, Thread, USER_BYTES, User};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;

/// All names, as a pattern.
const NAMES: &str = "[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}";

/// Names, almost names, and anything else.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,140}", "[a-z_]{120,140}"]
}

proptest! {
    #[test]
    fn a_name_of_the_alphabet_is_kept_as_it_is(name in NAMES) {
        let thread = Thread::parse(&name).expect("a name");
        prop_assert_eq!(thread.as_str(), &name);
    }

    #[test]
    fn any_text_is_a_name_or_breaks_the_rule(text in texts()) {
        let letters = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.:@-".contains(letter));
        let is_begun = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_name = letters && is_begun && text.len() <= NAME_BYTES;
        prop_assert_eq!(Thread::parse(&text).is_some(), is_name);
        prop_assert_eq!(Epoch::parse(&text).is_some(), is_name);
        let is_user = (1..=USER_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        prop_assert_eq!(User::parse(&text).is_some(), is_user);
    }

    #[test]
    fn a_runs_id_tells_its_thread_and_its_number(name in NAMES, random in any::<u32>()) {
        let thread = Thread::parse(&name).expect("a name");
        let run = RunId::new(&thread, random);
        prop_assert_eq!(RunId::parse(run.as_str()), Some(run.clone()), "it is one that is taken");
        let (of, number) = run.as_str().rsplit_once('_').expect("three parts");
        prop_assert_eq!(of, format!("run_{name}"));
        prop_assert_eq!((number.len(), u32::from_str_radix(number, 16)), (8, Ok(random)));
    }

    #[test]
    fn users_have_one_order_and_are_the_same_only_by_their_whole_text(
        texts in prop::collection::vec("[ab]{1,10}|[ab]c{8}", 3..12),
    ) {
        let mut users: Vec<User> = texts.iter().filter_map(|text| User::parse(text)).collect();
        users.sort();
        for (at, one) in users.iter().enumerate() {
            for other in &users[at..] {
                prop_assert_eq!(one == other, one.as_str() == other.as_str());
                prop_assert!(one <= other, "{one:?} before {other:?}");
                prop_assert_eq!(one.cmp(other), other.cmp(one).reverse());
            }
        }
    }
}
