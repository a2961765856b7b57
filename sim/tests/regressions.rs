//! Every world that ever broke a promise, and is kept under `sim/regressions/`, keeps it now.

use runcast_sim::shrink::Kept;
use runcast_sim::swarm::play_and_explain;
use std::path::Path;

#[test]
fn what_was_found_once_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "there is something to replay");
    for file in files {
        let kept: Kept = serde_json::from_str(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", file.display()));
        assert!(!kept.why.is_empty(), "{} does not say why it is kept", file.display());
        if let Err(failure) = play_and_explain(&kept.plan) {
            panic!("{}, kept for {}:\n{failure}", file.display(), kept.why);
        }
    }
}
