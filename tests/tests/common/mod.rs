//! What the tests with snapshots share.

/// Puts ids, times and durations out of sight.
pub(crate) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(run_[a-z0-9_]+)_[0-9a-f]{8}", "${1}_[8 hex]");
    settings.add_filter(r"e-[0-9a-f]{16}", "e-[16 hex]");
    settings.add_filter(r#""c-\d+""#, r#""c-[number]""#);
    settings.add_filter(r#""ts":\d+"#, r#""ts":"[ts]""#);
    settings.add_filter(r#""(\w+_ms)":\d+"#, r#""$1":"[ms]""#);
    settings
}
