//! Replays the committed seeds on stable Rust: every finding ever made among them.

use runcast_fuzz::TARGETS;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn every_seed_of_every_target_passes() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut seeds: Vec<_> = fs::read_dir(&folder).expect("seeds").map(|it| it.unwrap().path()).collect();
        seeds.sort();
        assert!(seeds.len() >= 20, "{name} has some dozens of seeds");
        for seed in seeds {
            let data = fs::read(&seed).expect("a seed");
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(outcome.is_ok(), "{} fails", seed.display());
        }
    }
}
